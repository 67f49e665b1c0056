"""ONNX models to named arrays, with the `onnx` library."""
