"""Does the runtime here compute what the artefact was validated with? Stored inputs tell.

`NAME.fingerprint.npz` lies beside `NAME.onnx`: `images` (N, C, H, W) uint8 levels, `logits` (N,
classes) float32 that the validated runtime gave, and `about`, JSON that names both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format, without_writer
from edge_bench.core.saturation import cause
from edge_bench.core.spec import BackendInfo, FingerprintResult, Report
from edge_bench.core.version import __version__
from edge_bench.files.arrays.about import read_with_about, write_with_about
from edge_bench.files.store import from_json, require_file

Scores = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (N, C, H, W) of 8-bit levels to the logits (N, classes) of the runtime."""

SAMPLES = 16
SUFFIX = ".fingerprint.npz"

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2}
"""By the card's precision, of the logits' spread.

ONNX Runtime's optimisation levels, which choose other kernels, moved FP32 logits by 4e-7 of their
spread at most (ResNet-8 to ResNet-18, MobileNetV2); one rounding to TF32 or bfloat16 is 5e-4 or
4e-3. One rounding to FP16 is 5e-4, and a network makes some tens in a row.
"""
INT8_STEPS = 1.5
"""Of an INT8 artefact: logits come in steps, and rounding the last of them the other way moves one
by a step. More means that a layer before it gave other integers: on one x86 machine the two ways to
run an S8S8 ResNet-18 lie three steps apart, and so do the classes of 2 images in 128."""
SMALLEST_STEP = 1 / 1000
"""Of the spread: INT8 has 255 steps, so logits that lie closer were left in float."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a fingerprint is of: the artefact, and the runtime and machine that validated it."""

    FORMAT: ClassVar = Format(
        name="a fingerprint",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(ardx="0.2.0", what="ardx_version", upgrade=without_writer),
            Change(ardx="0.2.0", what="content_sha256: of all the rest"),
        ),
        sealed_from=3,
        anew="export the artefact again",
    )

    schema_version: int = FORMAT.version
    artifact_sha256: str
    backend: BackendInfo
    architecture: str
    cpu: str | None
    ardx_version: str | None = __version__


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Inputs as 8-bit levels (N, C, H, W), the validated logits (N, classes), and their origin."""

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    origin: Origin


def fingerprint_path(model: Path) -> Path:
    """Where the fingerprint of an artefact lies."""
    return model.with_suffix(SUFFIX)


def write_fingerprint(path: Path, fingerprint: Fingerprint, force: bool) -> None:
    """Write it atomically, without pickle."""
    images, logits = fingerprint.images, fingerprint.logits
    write_with_about(path, fingerprint.origin, force, images=images, logits=logits)


def read_fingerprint(path: Path, artifact_sha256: str) -> Fingerprint:
    """Read the fingerprint of the artefact with that sha256.

    Raises:
        InputError: damaged, of a newer schema, or of another artefact.
    """
    require_file(path, "a fingerprint")
    (images, logits), data = read_with_about(path, ("images", "logits"), _damaged)
    origin = from_json(data, Origin, str(path), "a fingerprint")
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise _damaged(path, f"its images are {images.dtype} of shape {images.shape}")
    if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != len(images):
        raise _damaged(path, f"its logits are {logits.dtype} of shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise _damaged(path, "its logits hold NaN or infinity")
    if origin.artifact_sha256 != artifact_sha256:
        raise InputError(
            f"{path}: expected the fingerprint of the artefact beside it (sha256 "
            f"{artifact_sha256[:12]}), came that of another ({origin.artifact_sha256[:12]}); "
            "export the artefact again, copy both files, or remove the fingerprint"
        )
    return Fingerprint(images=images, logits=logits, origin=origin)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path}: not a readable fingerprint ({why}); copy or export it again")


def compare(fingerprint: Fingerprint, scores: Scores, precision: str) -> FingerprintResult:
    """Run the stored inputs of an artefact of that precision through `scores`, and compare."""
    expected, origin = fingerprint.logits, fingerprint.origin
    logits = scores(fingerprint.images)
    # A spread of zero is that of a dead artefact, of which any change is a difference.
    spread = max(float(np.ptp(expected)), float(np.finfo(np.float32).tiny))
    return FingerprintResult(
        samples=len(expected),
        same_class=int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        largest_difference=float(np.abs(logits - expected).max()) / spread,
        tolerance=TOLERANCES.get(precision) or INT8_STEPS * _step(expected, spread),
        backend=origin.backend,
        architecture=origin.architecture,
        cpu=origin.cpu,
    )


def differs(result: FingerprintResult) -> bool:
    """Is it farther from what was validated than another kernel of the same arithmetic is?"""
    return result.largest_difference > result.tolerance


def difference_sentence(report: Report) -> str | None:
    """A warning where the runtime of a report computes something else than what was validated."""
    result = report.fingerprint
    if result is None or not differs(result):
        return None
    validated = _runtime(result.backend, result.architecture, result.cpu)
    here = _runtime(report.backend, report.device.architecture, report.device.cpu)
    why = cause(report.artifact.card, report.backend, report.device)
    return (
        "this runtime computes something else than what was validated: the same class on "
        f"{result.same_class} of {result.samples} stored inputs, logits up to "
        f"{100 * result.largest_difference:.2g} % of their spread apart (expected "
        f"{100 * result.tolerance:.2g} % or less); validated with {validated}, here {here}; the "
        "accuracies of this report hold for here, the check of ardx export does not"
    ) + (f"; {why}" if why else "")


def _runtime(info: BackendInfo, architecture: str, cpu: str | None) -> str:
    machine = f"{architecture}, {cpu}" if cpu else architecture
    return f"{info.name} {info.version} ({', '.join(info.providers)}; {machine})"


def _step(logits: NDArray[np.float32], spread: float) -> float:
    """The step of quantised logits, as a fraction of their spread."""
    levels = np.unique(logits.astype(np.float64)) / spread
    gaps = np.diff(levels)
    # Steps are those of float32 arithmetic, so equal levels may be told apart by its rounding.
    gaps = gaps[gaps > 1e-6]
    smallest = float(gaps.min()) if len(gaps) else 0.0
    return smallest if SMALLEST_STEP < smallest < 1 / 16 else 1 / 255
