"""Optional copies of the current release in a database."""
