"""TFLite files, written from ONNX graphs: what LiteRT runs."""
