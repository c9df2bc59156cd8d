"""Retention, compaction, and erasure."""
