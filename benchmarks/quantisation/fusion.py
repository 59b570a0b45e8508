"""Which layers of a QDQ file ONNX Runtime runs in float all the same.

A pair of QuantizeLinear and DequantizeLinear only permits integers: a runtime that does not
recognise the pattern around a layer computes it in float, from weights that it dequantises at every
inference, which is slower than the FP32 model. Nothing says so but the runtime's optimised graph.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

LAYERS = frozenset({"Add", "Clip", "Conv", "FusedConv", "FusedGemm", "Gemm", "MatMul", "Relu"})


def float_layers(path: Path, session_options: dict[str, str]) -> list[str]:
    """Op types of the layers that ONNX Runtime's CPU provider runs in float, on this machine.

    Args:
        path: the ONNX file.
        session_options: what its sessions are opened with, as on its card.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that such a graph is for this machine alone
    for key, value in session_options.items():
        options.add_session_config_entry(key, value)
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(optimised).graph.node
    return [node.op_type for node in nodes if node.op_type in LAYERS]
