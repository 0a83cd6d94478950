"""From a torch module to an ONNX file that computes the same."""
