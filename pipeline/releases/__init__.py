"""Releases: written, verified, switched, compared, served."""
