"""Reads landing days and decides which rows to accept into the catalogue."""
