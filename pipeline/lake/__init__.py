"""Reads and writes the tables of the lake; every write is idempotent."""
