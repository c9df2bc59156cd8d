"""Runs extraction in child processes with limits."""
