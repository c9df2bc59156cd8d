"""The steps of the nightly run: they read tables and write tables."""
