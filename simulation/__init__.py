"""A small world with known truth, as arrays and as media files."""
