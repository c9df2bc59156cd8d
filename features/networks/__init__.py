"""The ONNX networks, and the names of extractors."""
