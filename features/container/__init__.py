"""Opens media files and checks the size and length that their containers declare."""
