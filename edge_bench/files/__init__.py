"""Every file that is read or written: reports, sets, journals, bundles, ONNX files."""
