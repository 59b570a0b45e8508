"""How far each layer of a runtime lies from the validated one, and which departs first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends import open_backend
from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format
from edge_bench.core.spec import BackendInfo
from edge_bench.core.version import __version__
from edge_bench.explain.probe_file import (
    OUTPUT,
    Point,
    Reference,
    graph_path,
    read_reference,
    reference_path,
)
from edge_bench.files.external_data import model_files
from edge_bench.files.store import identity, sha256_file
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import stored_logits

Shown = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (N, C, H, W) of 8-bit levels to what a runtime shows of its layers (N, K)."""

MARGIN = 2.0
"""What rounding explains is measured on one runtime; another may move a layer this much more."""
STEPS_RMS, STEPS_MOST = 0.25, 2.5
"""Of quantised tensors, in steps: what is never called a departure. Rounding one way or the other
moves a value by one step, and in a sum of such values the next one by hardly more."""
SAME_STEP = 0.5
"""Two values of a quantised tensor that are closer are the same integer."""
FLOATS = {"fp32": 1e-4, "fp16": 1e-2}
"""Of others, in standard deviations, by the card's precision: as of the fingerprint."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What became of one layer.

    Attributes:
        layer, tensor, unit, quantised: as of `Point`.
        rms, most: difference to the validated runtime, in units.
        moved: share of samples that differ at all.
        allowed_rms, allowed_most: beyond which rounding explains it no longer.
    """

    layer: str
    tensor: str
    unit: float
    quantised: bool
    rms: float
    most: float
    moved: float
    allowed_rms: float
    allowed_most: float

    @property
    def departs(self) -> bool:
        """Is it farther away than rounding explains?"""
        return self.rms > self.allowed_rms or self.most > self.allowed_most


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """All layers of an artefact in one runtime, in the order in which they are computed."""

    FORMAT: ClassVar = Format(
        name="an explanation",
        history=(Change(ardx="0.2.0", what="the first form; content_sha256: of the rest"),),
        sealed_from=1,
        anew="run ardx bench --explain again",
    )

    schema_version: int = FORMAT.version
    artifact_sha256: str
    layers: tuple[Difference, ...]
    images: int
    backend: BackendInfo
    validated_with: BackendInfo
    same_logits: bool
    ardx_version: str | None = __version__

    @property
    def first(self) -> Difference | None:
        """The first layer that departs; None where none does."""
        return next((layer for layer in self.layers if layer.departs), None)


def explain(model: Path, options: BenchOptions) -> Explanation:
    """Run the probe of the artefact `model` in the runtime of `options`, and compare its layers.

    Raises:
        InputError: no probe beside it, or that of another artefact.
        CapabilityError: the runtime is not here.
    """
    reference, sha256 = require_probe(model)
    about, probe = reference.about, graph_path(model)
    with open_backend(
        options.backend, probe, options.threads, options.engine, output=OUTPUT
    ) as backend:
        precision = backend.card.precision if backend.card else "fp32"
        layers = differences(
            reference,
            lambda images: stored_logits(backend, images, reference.values.shape[1]),
            precision,
        )
        return Explanation(
            artifact_sha256=sha256,
            layers=layers,
            images=len(reference.images),
            backend=backend.info,
            validated_with=about.backend,
            same_logits=about.same_logits,
        )


def require_probe(model: Path) -> tuple[Reference, str]:
    """What the probe of an artefact showed where it was made, and the artefact's sha256.

    Raises:
        InputError: no probe beside it, or that of another artefact.
    """
    reference = read_reference(reference_path(model))
    sha256, _ = identity(model_files(model))
    about, probe = reference.about, graph_path(model)
    for path, found, expected in (
        (model, sha256, about.artifact_sha256),
        (probe, sha256_file(probe) if probe.exists() else "none", about.probe_sha256),
    ):
        if found != expected:
            raise InputError(
                f"{path}: sha256 {found[:12]}, but {reference_path(model)} is of {expected[:12]}; "
                "copy all of what ardx export --probe wrote, or export it again"
            )
    return reference, sha256


def differences(reference: Reference, shown: Shown, precision: str) -> tuple[Difference, ...]:
    """Each layer of the runtime that `shown` asks, beside the validated one."""
    values = shown(reference.images).astype(np.float64) - reference.values
    return tuple(
        _difference(point, values[:, point.begin : point.begin + point.count], precision)
        for point in reference.about.points
    )


def _difference(point: Point, apart: NDArray[np.float64], precision: str) -> Difference:
    units = np.abs(apart) / point.unit
    rms, most = (STEPS_RMS, STEPS_MOST) if point.quantised else 2 * (FLOATS.get(precision, 1e-2),)
    return Difference(
        layer=point.layer,
        tensor=point.tensor,
        unit=point.unit,
        quantised=point.quantised,
        rms=float(np.sqrt((units**2).mean())),
        most=float(units.max()),
        moved=float((units > (SAME_STEP if point.quantised else 0)).mean()),
        allowed_rms=max(rms, MARGIN * point.rounding_rms),
        allowed_most=max(most, MARGIN * point.rounding_most),
    )
