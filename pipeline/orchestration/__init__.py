"""Connects the pipeline to Airflow: helpers of the DAGs, alerts, and a local instance."""
