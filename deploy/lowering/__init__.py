"""Passes over a float ONNX graph: tidied, its image input chosen, its layers named."""
