"""Ranges of a graph's activations from images, by ONNX Runtime's calibrators, in bounded memory.

Left to themselves, its histogram calibrators keep every activation of every image until the last
one is in. Fed batch by batch they keep one batch's, and a histogram of each tensor.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Collection, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import (
    HistogramCollector,
    TensorData,
    TensorsData,
    create_calibrator,
)

from edge_bench.backends.base import ImageInput
from edge_bench.backends.ort import image_input
from edge_bench.core.errors import InputError
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import prepare

METHODS: dict[str, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
"""`minmax` covers every value seen, `percentile` all but the rarest, and `entropy` loses the least
information (the Kullback-Leibler divergence between histogram and quantised histogram)."""

# ONNX Runtime's defaults for entropy, 128 bins for 128 levels, leave one candidate: the whole
# range, which is minmax. 256 levels are INT8's; each further bin costs a second per tensor and 500.
HISTOGRAM: dict[str, Any] = {"symmetric": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "minmax": {},
    "entropy": {**HISTOGRAM, "num_bins": 1024, "num_quantized_bins": 256},
    "percentile": {**HISTOGRAM, "num_bins": 2048, "percentile": 99.99},
}

LEAST_SPREAD = 1e-30
"""Where a tensor was at rest, ONNX Runtime takes a step of 1 and the zero point 0. In int8 that is
the middle: the ReLU that it drops, since saturation does its work, would let negative values pass.
"""
LARGEST_BATCH = 32
# Of activations in one batch. A collector copies the tensor that it is counting, twice.
BATCH_BYTES = 64 << 20


def calibrate(
    graph: Path,
    images: NDArray[Any],
    method: str,
    op_types: Collection[str],
) -> TensorsData:
    """The range of every float activation that a node of `op_types` reads or writes.

    Args:
        graph: an ONNX file with one image input.
        images: (N, C, H, W) uint8 levels, or float32 in [0, 1]; converted a batch at a time.
        method: key of METHODS.

    A tensor that was 0 for all images gets the range 0 to 1, see LEAST_SPREAD.

    Raises:
        InputError: no such method.
    """
    require_method(method)
    whole = _collect(graph, images, "minmax", op_types, None)
    at_rest = [name for name, data in whole.items() if _spread(data) < LEAST_SPREAD]
    found = whole if method == "minmax" else _collect(graph, images, method, op_types, whole)
    for name in at_rest:
        found[name].lowest = np.zeros_like(found[name].lowest)
        found[name].highest = np.ones_like(found[name].highest)
    return found


def _spread(data: TensorData) -> float:
    """The width of a range with 0 in it, as a quantiser takes it."""
    least, most = (float(np.asarray(end).reshape(())) for end in data.range_value)
    return max(most, 0.0) - min(least, 0.0)


def require_method(name: str) -> None:
    """Refuse a method that is not known.

    Raises:
        InputError: no such method.
    """
    if name not in METHODS:
        raise InputError(f"--calibration-method {name}: expected one of {', '.join(METHODS)}")


def _collect(
    graph: Path,
    images: NDArray[Any],
    method: str,
    op_types: Collection[str],
    whole: TensorsData | None,
) -> TensorsData:
    """`calibrate` by one calibrator; histograms need the `whole` ranges first."""
    with (
        tempfile.TemporaryDirectory() as folder,
        # Its progress goes to stdout, where ours is for machines.
        contextlib.redirect_stdout(io.StringIO()),
    ):
        calibrator = create_calibrator(
            graph,
            list(op_types),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=METHODS[method],
            extra_options=OPTIONS[method],
        )
        if whole is not None:
            calibrator.collector = _collector(calibrator, whole)
        size = _batch_size(onnx.load(graph).graph)
        image_in = image_input(calibrator.infer_session.get_inputs(), graph)
        for feed in _feeds(images, image_in, size):
            calibrator.collect_data(OneBatch(feed))
        return calibrator.compute_data()


def _collector(calibrator: Any, whole: TensorsData) -> HistogramCollector:
    """A collector whose histograms span the whole ranges from the start.

    They would span the first batch's and grow, in bins of the first width, without a bound where
    that batch left a tensor almost at rest. The two ends of a range are counted once too often.
    """
    names = ("method", "symmetric", "num_bins", "num_quantized_bins", "percentile", "scenario")
    collector = HistogramCollector(**{name: getattr(calibrator, name) for name in names})
    ends = {
        name: np.array(data.range_value, dtype=np.float32).reshape(-1)
        for name, data in whole.items()
    }
    collector.collect(ends)
    return collector


class OneBatch:
    """What calibrators read from, with one batch to give."""

    def __init__(self, feed: dict[str, NDArray[Any]]) -> None:
        self._feed: dict[str, NDArray[Any]] | None = feed

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The batch at first, and then None."""
        feed, self._feed = self._feed, None
        return feed


def _feeds(
    images: NDArray[Any], image_in: ImageInput, size: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """All images in batches, as the graph declares its input."""
    size = image_in.batch_size or size
    for begin in range(0, len(images), size):
        part = images[begin : begin + size]
        if image_in.batch_size and len(part) < size:
            # A graph with a bound batch; images that were seen already move no range.
            part = np.resize(part, (size, *part.shape[1:]))
        yield {image_in.name: prepare(part, image_in, BenchOptions())}


def _batch_size(graph: onnx.GraphProto) -> int:
    """As many images as keep their activations under BATCH_BYTES, one at least."""
    inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph)).graph
    floats = 0
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
        floats += prod(max(size, 1) for size in sizes)
    return max(1, min(LARGEST_BATCH, BATCH_BYTES // (4 * max(floats, 1))))
