"""Make the probe of an artefact: its twin, what that shows here, and what rounding explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploy.lowering.graph import to_change
from deploy.probing.twin import Tensor, chosen, tensors_of, twin_of, with_outputs
from deploy.quantization.twin import open_as_target
from edge_bench import devices
from edge_bench.explain.probe_file import (
    OUTPUT,
    About,
    Point,
    Reference,
    graph_path,
    reference_path,
    write_reference,
)
from edge_bench.files.fingerprint import fingerprint_path, read_fingerprint
from edge_bench.files.store import atomic_file, sha256_file
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import prepare, stored_logits

IMAGES = 8
TINY = float(np.finfo(np.float32).tiny)


def write_probe(artifact: Path, force: bool, root: Path = devices.ROOT) -> Reference:
    """Write `NAME.probe.onnx` and `NAME.probe.npz` beside an artefact that has a fingerprint.

    Raises:
        InputError: files that exist.
    """
    sha256 = sha256_file(artifact)
    images = _spread(read_fingerprint(fingerprint_path(artifact), sha256).images)
    model = to_change(artifact)
    with (
        atomic_file(reference_path(artifact), force) as marks,
        atomic_file(graph_path(artifact), force) as partial,
    ):
        tensors, sizes = _sized(model, tensors_of(model.graph), images, partial)
        onnx.save(twin_of(model, tensors, sizes), partial)
        columns = sum(len(chosen(size)) for size in sizes)
        device = devices.probe("auto", root)
        with open_as_target(partial, root=root, output=OUTPUT) as backend:
            fused = stored_logits(backend, images, columns)
        with open_as_target(artifact, root=root) as backend:
            expected = stored_logits(backend, images, sizes[-1])[:, chosen(sizes[-1])]
            about = About(
                artifact_sha256=sha256,
                probe_sha256=sha256_file(partial),
                points=_points(tensors, sizes, fused, _unfused(partial, images)),
                backend=backend.info,
                architecture=device.architecture,
                cpu=device.cpu,
                same_logits=bool((fused[:, -expected.shape[1] :] == expected).all()),
            )
        reference = Reference(images=images, values=fused, about=about)
        write_reference(marks, reference, force=False)
    return reference


def _spread(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A few of the fingerprint's images, of each kind that it holds."""
    return images[:: max(1, len(images) // IMAGES)][:IMAGES]


def _sized(
    model: onnx.ModelProto, tensors: list[Tensor], images: NDArray[np.uint8], scratch: Path
) -> tuple[list[Tensor], list[int]]:
    """The tensors that have values for each image, and how many these are for one."""
    onnx.save(with_outputs(model, tensors), scratch)
    session = _session(scratch, fuses=False)
    found = session.run([tensor.name for tensor in tensors], _inputs(session, scratch, images))
    batch = len(next(iter(_inputs(session, scratch, images).values())))
    # The logits are always among them, and all there is of a network of one layer.
    kept = [
        (tensor, value.size // batch)
        for tensor, value in zip(tensors, found, strict=True)
        if value.ndim >= 2 and len(value) == batch and value.dtype.kind == "f"
    ]
    return [tensor for tensor, _ in kept], [size for _, size in kept]


def _inputs(session: Any, path: Path, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The images as the graph reads them; of one that is bound to a batch size, one batch."""
    from edge_bench.backends.ort import image_input

    declared = image_input(session.get_inputs(), path)
    size = declared.batch_size or len(images)
    batch = np.resize(images, (size, *images.shape[1:]))
    return {declared.name: prepare(batch, declared, BenchOptions())}


def _session(path: Path, *, fuses: bool) -> Any:
    """A session under the card's options; without fusion each node rounds for itself."""
    import onnxruntime as ort

    from edge_bench.files.onnx_file import read_card

    options = ort.SessionOptions()
    options.log_severity_level = 3
    card = read_card(path)
    for key, value in (card.session_options if card else {}).items():
        options.add_session_config_entry(key, value)
    if not fuses:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _unfused(probe: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, K): what the probe shows where each node rounds for itself."""
    session = _session(probe, fuses=False)
    ((name, batch),) = _inputs(session, probe, images).items()
    parts = []
    for begin in range(0, len(images), len(batch)):
        part = _inputs(session, probe, images[begin : begin + len(batch)])[name]
        parts.append(session.run([OUTPUT], {name: part})[0])
    return np.concatenate(parts)[: len(images)].astype(np.float32)


def _points(
    tensors: list[Tensor],
    sizes: list[int],
    fused: NDArray[np.float32],
    plain: NDArray[np.float32],
) -> tuple[Point, ...]:
    points, begin = [], 0
    for tensor, size in zip(tensors, sizes, strict=True):
        count = len(chosen(size))
        here = fused[:, begin : begin + count].astype(np.float64)
        unit = tensor.step or max(float(here.std()), TINY)
        apart = np.abs(here - plain[:, begin : begin + count]) / unit
        points.append(
            Point(
                layer=tensor.layer,
                tensor=tensor.name,
                begin=begin,
                count=count,
                unit=unit,
                quantised=tensor.step is not None,
                rounding_rms=float(np.sqrt((apart**2).mean())),
                rounding_most=float(apart.max()),
            )
        )
        begin += count
    return tuple(points)
