"""The probe of an artefact: a twin of it that shows samples of every layer, and what it showed.

`NAME.probe.onnx` has the artefact's graph and one more output, `probe` (B, K): the samples of one
layer after another. `NAME.probe.npz` lies beside it: `images` (N, C, H, W) uint8 levels, `values`
(N, K) float32 that the validated runtime gave, and `about`, JSON that says which columns are whose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format
from edge_bench.core.spec import BackendInfo
from edge_bench.core.version import __version__
from edge_bench.files.arrays.about import read_with_about, write_with_about
from edge_bench.files.store import from_json, require_file

OUTPUT = "probe"
GRAPH, REFERENCE = ".probe.onnx", ".probe.npz"


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a graph is looked into: one tensor, and its columns among the samples.

    Attributes:
        layer: the node that makes it, for people.
        tensor: its name in the graph.
        begin, count: its columns.
        unit: what differences are counted in: the step of a quantised tensor; of another one the
            standard deviation of its samples.
        quantised: which of the two.
        rounding_rms, rounding_most: by how many units the same runtime moves it where it fuses no
            layers, and so rounds at other places: what rounding explains.
    """

    layer: str
    tensor: str
    begin: int
    count: int
    unit: float
    quantised: bool
    rounding_rms: float
    rounding_most: float

    def __post_init__(self) -> None:
        numbers = (self.unit, self.rounding_rms, self.rounding_most)
        if self.begin < 0 or self.count < 1 or not self.unit > 0:
            raise InputError(f"{self.layer}: expected columns and a unit above 0; export it again")
        if not all(np.isfinite(number) and number >= 0 for number in numbers):
            raise InputError(f"{self.layer}: expected finite numbers; export it again")


@dataclass(frozen=True, kw_only=True)
class About:
    """What a probe is of: the artefact, its layers in order, and the runtime that it was run on.

    Attributes:
        same_logits: whether the twin gave the artefact's own logits to the bit, so that its layers
            are computed as the artefact's are.
    """

    FORMAT: ClassVar = Format(
        name="a probe",
        history=(Change(ardx="0.2.0", what="the first form; content_sha256: of the rest"),),
        sealed_from=1,
        anew="export the artefact again with --probe",
    )

    schema_version: int = FORMAT.version
    artifact_sha256: str
    probe_sha256: str
    points: tuple[Point, ...]
    backend: BackendInfo
    architecture: str
    cpu: str | None
    same_logits: bool
    ardx_version: str | None = __version__


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Inputs as 8-bit levels (N, C, H, W), what the validated runtime showed (N, K), of what."""

    images: NDArray[np.uint8]
    values: NDArray[np.float32]
    about: About


def graph_path(model: Path) -> Path:
    """Where the probe of an artefact lies."""
    return model.with_suffix(GRAPH)


def reference_path(model: Path) -> Path:
    """Where what it showed lies."""
    return model.with_suffix(REFERENCE)


def write_reference(path: Path, reference: Reference, force: bool) -> None:
    """Write it atomically, without pickle."""
    images, values = reference.images, reference.values
    write_with_about(path, reference.about, force, images=images, values=values)


def read_reference(path: Path) -> Reference:
    """Read what a probe showed.

    Raises:
        InputError: none there, damaged, or of a newer schema.
    """
    require_file(path, "what a probe showed, of ardx export --probe")
    (images, values), data = read_with_about(path, ("images", "values"), _damaged)
    told = from_json(data, About, str(path), "a probe")
    columns = sum(point.count for point in told.points)
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise _damaged(path, f"its images are {images.dtype} of shape {images.shape}")
    if values.dtype != np.float32 or values.shape != (len(images), columns) or not columns:
        raise _damaged(path, f"its values are {values.dtype} of shape {values.shape}")
    if not np.isfinite(values).all():
        raise _damaged(path, "its values hold NaN or infinity")
    begins = np.cumsum([0, *(point.count for point in told.points)])
    if any(point.begin != begin for point, begin in zip(told.points, begins, strict=False)):
        raise _damaged(path, "its columns do not follow one another")
    return Reference(images=images, values=values, about=told)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path}: not a readable probe ({why}); copy or export it again")
