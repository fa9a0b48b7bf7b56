"""ExecuTorch: ONNX graphs written as its programs, which XNNPACK runs as a whole."""
