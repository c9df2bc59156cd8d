"""Publishes releases: writes, promotes, rolls back, and copies them to sinks."""
