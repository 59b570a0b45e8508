"""An ONNX graph of anyone's read into torch, so that it has gradients."""
