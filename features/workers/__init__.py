"""Runs extraction in child processes with limits on what they can use."""
