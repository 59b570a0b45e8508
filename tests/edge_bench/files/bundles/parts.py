"""What several tests of bundles make of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_bench.core.spec import BackendInfo
from edge_bench.files.external_data import model_files
from edge_bench.files.fingerprint import Fingerprint, Origin, fingerprint_path, write_fingerprint
from edge_bench.files.store import identity


def mark(path: Path, clean: NDArray[np.uint8], weight: NDArray[np.float32]) -> None:
    logits = (clean[:16].reshape(16, -1) / np.float32(255)) @ weight.T
    info = BackendInfo(name="ort", version="1.0", providers=("Some",), threads=None)
    sha256, _ = identity(model_files(path))
    origin = Origin(artifact_sha256=sha256, backend=info, architecture="riscv64", cpu=None)
    marks = Fingerprint(images=clean[:16], logits=logits.astype(np.float32), origin=origin)
    write_fingerprint(fingerprint_path(path), marks, force=True)


def name_data(model: Path, location: str) -> None:
    """Let the weights of a model lie elsewhere, without a file there."""
    graph = onnx.load(model)
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    model.write_bytes(graph.SerializeToString())
