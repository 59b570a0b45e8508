"""From a torch module to an ONNX file, and whether both agree."""
