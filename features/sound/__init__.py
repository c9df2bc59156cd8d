"""Decodes sound and turns it into embeddings and statistics."""
