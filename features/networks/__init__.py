"""Runs ONNX networks, exports the packaged one, and names extractors."""
