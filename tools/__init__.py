"""Build-time tools: documentation pages, screenshots, exported networks. Not part of the wheel."""
