"""Landing: what is delivered, read with trust in nothing, and who of it may enter the catalogue."""
