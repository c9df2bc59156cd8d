"""Copies the current release to databases, if the settings name any."""
