"""Opens media files and checks what their containers claim."""
