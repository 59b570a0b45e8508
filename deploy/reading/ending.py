"""Graphs that end in probabilities: the logits are what their softmax reads."""

from __future__ import annotations

import onnx

PASSING = ("Identity", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast")
"""What may follow a softmax without changing which class is the largest."""


def last_softmax(graph: onnx.GraphProto, output: str) -> onnx.NodeProto | None:
    """The softmax that `output` is of, up to its shape and type; None where it is of none."""
    made_by = {name: node for node in graph.node for name in node.output}
    node = made_by.get(output)
    while node is not None and node.op_type in PASSING and node.domain in ("", "ai.onnx"):
        node = made_by.get(node.input[0])
    return node if node is not None and node.op_type == "Softmax" else None


def without_softmax(graph: onnx.GraphProto, output: str) -> bool:
    """Let the last softmax pass on what it reads, in place; was there one?

    The largest logit is that of the largest probability. Attacks need logits: where a network is
    sure, the gradients of its probabilities vanish. A log-softmax stays, since its outputs are
    logits themselves.
    """
    node = last_softmax(graph, output)
    if node is None:
        return False
    node.op_type = "Identity"
    node.ClearField("attribute")
    return True
