"""nn.Module to one ONNX file: normalisation inside, free batch size, model card in the metadata."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import onnx
import torch
from torch import nn

from edge_bench.onnx_file import CARD_KEY
from edge_bench.spec import ModelCard

OPSET = 18
# The newest that onnxruntime 1.17 reads, which is the oldest that boards still run.
IR_VERSION = 9
INPUT, OUTPUT = "images", "logits"


def export_fp32(model: nn.Module, image_shape: tuple[int, int, int], path: Path) -> None:
    """Write `model` (eval mode, CPU, images in [0, 1]) as ONNX with a free batch size."""
    example = torch.zeros(2, *image_shape)
    with warnings.catch_warnings():
        # torch's exporter warns about its own internals; the parity check judges the result.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
        )


def finish(path: Path, card: ModelCard) -> None:
    """Make the ONNX file readable for old runtimes, and put the model card into its metadata."""
    graph = onnx.load(path)
    graph.ir_version = IR_VERSION
    used = {node.domain for node in graph.graph.node}
    # A domain that no node uses can still be too new for an old runtime.
    for entry in [e for e in graph.opset_import if e.domain not in used]:
        graph.opset_import.remove(entry)
    drop_traces(graph.graph)
    properties = {
        CARD_KEY: json.dumps(asdict(card)),
        "classes": str(card.classes),
        "input_range": "0..1 (float32, NCHW); normalisation is inside the graph",
        "dataset": card.dataset,
        "parent_sha256": card.parent_sha256 or "",
    }
    onnx.helper.set_model_props(graph, properties)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def drop_traces(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes on each node and value: they came with IR 10, and weigh much."""
    graph.ClearField("metadata_props")
    values = (*graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for part in (*graph.node, *values):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
