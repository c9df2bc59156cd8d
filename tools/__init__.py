"""Build-time scripts: generated pages, screenshots, exported networks. Not part of the wheel."""
