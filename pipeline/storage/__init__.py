"""Stores files and folders of a lake, local or in object storage, and detects damage."""
