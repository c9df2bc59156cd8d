"""Plans and runs the extraction of features, and checks that no row is lost."""
