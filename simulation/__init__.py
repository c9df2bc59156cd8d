"""Simulated worlds in which the true match of video and music is known, as arrays and as files."""
