"""Core ML: ONNX graphs written as ML programs, and what such programs compute by definition."""
