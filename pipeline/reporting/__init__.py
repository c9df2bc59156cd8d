"""What people look at: report, pages, status, metrics, alerts."""
