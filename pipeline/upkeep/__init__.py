"""Keeps the lake small and lawful: retention, compaction and erasure."""
