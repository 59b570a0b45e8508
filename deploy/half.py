"""FP16 in the ONNX itself: weights and activations in float16, input and output as they were.

Strongly typed, as TensorRT 11 demands. Nodes whose values a float16 may not hold stay in float32,
between casts, and so do those that the caller names.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, MinMaxCalibrater, create_calibrator
from onnxruntime.transformers.onnx_model import OnnxModel

from deploy.graph import INPUT, OUTPUT, constants
from edge_bench.errors import InputError

LARGEST = float(np.finfo(np.float16).max) / 8
"""What a tensor may reach on the images that are tried; on others, and within sums, it may go
higher."""
BATCH_SIZE = 16


def convert_fp16(
    fp32: Path, fp16: Path, images: NDArray[Any], keep: Collection[str] = ()
) -> tuple[str, ...]:
    """Convert the ONNX file `fp32` into `fp16`.

    Args:
        images: what the graph reads, in the type and layout of its input; they show how large its
            values become.
        keep: names of nodes that stay in float32.

    Returns:
        Names of the nodes that stayed in float32.

    Raises:
        InputError: `keep` names a node that the graph does not have.
    """
    model = onnx.load(fp32)
    unknown = sorted(set(keep) - {node.name for node in model.graph.node})
    if unknown:
        raise InputError(
            f"fp16: expected names of nodes of the graph to keep in float32, came {unknown[0]}; "
            "take them from the exported fp32 graph"
        )
    kept = {*keep, *_too_large(fp32, model, images)}
    converted = OnnxModel(model)
    with warnings.catch_warnings():
        # Each weight under the smallest float16 is told, which is what rounding means.
        warnings.simplefilter("ignore")
        converted.convert_float_to_float16(
            use_symbolic_shape_infer=False,
            keep_io_types=[INPUT, OUTPUT],
            node_block_list=sorted(kept),
        )
    converted.topological_sort()
    onnx.save(converted.model, fp16)
    return tuple(node.name for node in onnx.load(fp32).graph.node if node.name in kept)


def _too_large(fp32: Path, model: onnx.ModelProto, images: NDArray[Any]) -> set[str]:
    """Names of the nodes that read or write a tensor beyond LARGEST on some of the images."""
    peaks = {
        name: float(np.abs(value).max())
        for name, value in constants(model.graph).items()
        if value.dtype == np.float32 and value.size
    }
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(str(fp32), None, str(Path(folder) / "augmented.onnx"))
        assert isinstance(calibrator, MinMaxCalibrater)
        calibrator.collect_data(_Batches(images))
        for name, ranges in calibrator.compute_data().items():
            peaks[name] = max(float(np.abs(end).max()) for end in ranges.range_value)
        del calibrator
    large = {name for name, peak in peaks.items() if not peak <= LARGEST}
    return {n.name for n in model.graph.node if large & {*n.input, *n.output}}


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Images, some at a time."""

    def __init__(self, images: NDArray[Any]) -> None:
        self._batches: Iterator[NDArray[Any]] = iter(
            images[begin : begin + BATCH_SIZE] for begin in range(0, len(images), BATCH_SIZE)
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next feed, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
