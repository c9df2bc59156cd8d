"""Reads deliveries and decides which rows to accept."""
