"""The probe of an artefact: a twin of it that shows samples of every layer, and what it showed.

`NAME.probe.onnx` has the artefact's graph and one more output, `probe` (B, K): the samples of one
layer after another. `NAME.probe.npz` lies beside it: `images` (N, C, H, W) uint8 levels, `values`
(N, K) float32 that the validated runtime gave, and `about`, JSON that says which columns are whose.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InputError, first_line
from edge_bench.core.formats import Change, Format
from edge_bench.core.parse import json_of
from edge_bench.core.spec import BackendInfo
from edge_bench.core.version import __version__
from edge_bench.files.store import BROKEN_ARRAY, atomic_file, from_json, require_file, to_json

OUTPUT = "probe"
GRAPH, REFERENCE = ".probe.onnx", ".probe.npz"
MOST_BYTES = 256 << 20
"""More than the samples of any network take; a file that claims more is not read."""


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
        name="a probe", history=(Change(ardx="0.2.0", what="the first form"),)
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
    with atomic_file(path, force) as partial, partial.open("wb") as file:
        np.savez(
            file,
            images=reference.images,
            values=reference.values,
            about=np.array(to_json(reference.about)),
        )


def read_reference(path: Path) -> Reference:
    """Read what a probe showed.

    Raises:
        InputError: none there, damaged, or of a newer schema.
    """
    require_file(path, "what a probe showed, of ardx export --probe")
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
        if claimed > MOST_BYTES:
            raise ValueError(f"it claims {claimed} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            images, values, about = (arrays[name] for name in ("images", "values", "about"))
        data = json_of(str(about))
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,  # an array that is not there
        *BROKEN_ARRAY,  # not numpy's, pickled, or not JSON
        EOFError,
        OSError,  # a seek to where a damaged directory points
        NotImplementedError,  # an unknown compression
        RuntimeError,  # a password
    ) as error:
        raise _damaged(path, first_line(error)) from None
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
