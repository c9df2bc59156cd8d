"""Settings: the TOML file, environment variables, and their checks."""
