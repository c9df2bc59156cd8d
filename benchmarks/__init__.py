"""One runnable file per claim of speed or quality; each prints a table."""
