"""Reads and checks the settings: a TOML file and environment variables."""
