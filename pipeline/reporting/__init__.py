"""Reports for people and metrics for monitoring: report, pages, status, summary, metrics."""
