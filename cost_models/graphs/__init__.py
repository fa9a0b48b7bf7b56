"""Graphs: modules of sub-blocks and networks as the ONNX files that are measured and delivered."""
