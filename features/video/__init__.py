"""Samples frames and turns them into embeddings and statistics."""
