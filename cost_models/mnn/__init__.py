"""MNN: ONNX graphs given to MNN's own converter, and what its files say of themselves."""
