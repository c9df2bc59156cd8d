"""Samples video frames and turns them into embeddings and statistics."""
