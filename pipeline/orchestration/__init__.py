"""What the DAGs need from Airflow: helpers, alerts, and a local instance."""
