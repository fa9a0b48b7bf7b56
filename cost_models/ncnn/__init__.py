"""Ncnn: ONNX graphs written as files of ncnn, and what such files hold."""
