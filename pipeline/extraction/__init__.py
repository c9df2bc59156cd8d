"""Plans and runs the extraction of features, and accounts for every row."""
