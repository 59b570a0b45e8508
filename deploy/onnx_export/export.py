"""nn.Module to one ONNX file: normalisation inside, constants folded, model card in metadata."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import redirect_stderr
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import torch
from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed
from torch import nn

from deploy.lowering.graph import INPUT, OUTPUT
from deploy.lowering.pixels import read_levels
from deploy.lowering.tidy import clean
from deploy.onnx_export.refusal import first_cause, refusal
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.core.version import __version__
from edge_bench.files.onnx_file import CARD_KEY
from edge_bench.files.seals.graph import BLANK, KEY, seal

OPSET = 18
# The newest that onnxruntime 1.17 reads, which is the oldest that boards still run.
IR_VERSION = 9
INPUT_RANGES = {
    onnx.TensorProto.FLOAT: "0..1 (float32, NCHW); normalisation is inside the graph",
    onnx.TensorProto.UINT8: "0..255 (uint8, NHWC); normalisation is inside the graph",
}


def export_fp32(
    model: nn.Module, image_shape: tuple[int, int, int], path: Path, *, levels: bool = False
) -> None:
    """Write `model` (eval mode, CPU, images in [0, 1]) as ONNX with a free batch size.

    With `levels` the graph reads uint8 images (B, H, W, C), otherwise float ones (B, C, H, W).

    Raises:
        InputError: a layer that ONNX, or the exporter, does not have.
    """
    example = torch.zeros(2, *image_shape)
    # Without gradients: `qat.strided` computes some layers in another way where they learn.
    # Where it fails, it prints its own graphs beside what it raises.
    with warnings.catch_warnings(), torch.no_grad(), redirect_stderr(io.StringIO()):
        # torch's exporter warns about its own internals; the parity check judges the result.
        warnings.simplefilter("ignore")
        try:
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
        except Exception as error:
            # It raises a dozen unrelated types, of its own and of what runs inside of the network.
            if isinstance(first := first_cause(error), OSError):
                raise first from None  # The disk, not a layer.
            raise InputError(refusal(model, example, error, OPSET)) from None
    graph = onnx.load(path)
    if levels:
        read_levels(graph)
    clean(graph)
    onnx.save(graph, path)


def finish(path: Path, card: ModelCard, batch_size: int | None = None) -> None:
    """Make the ONNX file readable for old runtimes, and put card and hash into its metadata.

    `batch_size` binds the graph to so many images a call; None leaves it free.
    """
    graph = onnx.load(path)
    if batch_size is not None:
        _bind_batch(graph, batch_size)
    graph.ir_version = IR_VERSION
    used = {node.domain for node in graph.graph.node}
    # A domain that no node uses can still be too new for an old runtime.
    for entry in [e for e in graph.opset_import if e.domain not in used]:
        graph.opset_import.remove(entry)
    drop_traces(graph.graph)
    properties = {
        CARD_KEY: json.dumps(asdict(replace(card, ardx_version=__version__))),
        "classes": str(card.classes),
        "input_range": INPUT_RANGES[graph.graph.input[0].type.tensor_type.elem_type],
        "dataset": card.dataset,
        "parent_sha256": card.parent_sha256 or "",
        KEY: BLANK,
    }
    onnx.helper.set_model_props(graph, properties)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)
    seal(path)


def _bind_batch(model: onnx.ModelProto, batch_size: int) -> None:
    """Replace the free batch size, of every tensor that has it."""
    sizes = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    make_input_shape_fixed(model.graph, INPUT, [batch_size, *sizes[1:]])
    fix_output_shapes(model)


def drop_traces(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes on each node and value: they came with IR 10, and weigh much."""
    graph.ClearField("metadata_props")
    values = (*graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for part in (*graph.node, *values):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
