"""The whole export: graph, INT8, card and parity check, and only then the file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from deploy.budget import Budget, Maker, Outcome
from deploy.calibration import require_method
from deploy.export import export_fp32, finish
from deploy.layers import Layer
from deploy.parity import Parity, compare, require_agreement
from deploy.quantize import Quantiser
from deploy.search import search
from deploy.targets import target_named
from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.bench import stored_logits
from edge_bench.console import Monitor, silent
from edge_bench.fingerprint import (
    SAMPLES,
    Fingerprint,
    Origin,
    fingerprint_path,
    write_fingerprint,
)
from edge_bench.spec import ModelCard
from edge_bench.store import atomic_file, sha256_file


@dataclass(frozen=True, kw_only=True)
class Int8Plan:
    """How to quantise.

    Attributes:
        target: key of `targets.TARGETS`.
        calibration: images (N, C, H, W) from the training set, uint8 levels or float32 in [0, 1].
        kind: what they are, for the card: `clean`, `adversarial` or `mixed`.
        method: key of `calibration.METHODS`.

    Raises:
        InputError: no such target or method.
    """

    target: str
    calibration: Tensor
    kind: str = "clean"
    method: str = "minmax"

    def __post_init__(self) -> None:
        target_named(self.target)
        require_method(self.method)

    def applied_to(self, card: ModelCard) -> ModelCard:
        """The card of an artefact that was quantised like this."""
        recipe = card.recipe | {
            "int8_target": self.target,
            "calibration": self.kind,
            "calibration_method": self.method,
            "calibration_images": len(self.calibration),
        }
        options = target_named(self.target).session_options
        return replace(card, precision="int8", recipe=recipe, session_options=options)


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What to export and what it must live up to.

    Attributes:
        parent_sha256: of the weights.
        int8: None exports fp32.
        budget: what a lower precision may cost; None measures nothing and keeps no layer in float.
        check_images: images (N, C, H, W) in [0, 1] by kind, for the parity check.
        check_labels: their labels (N,).
        least_agreement: fraction of equal classes below which nothing is written.
    """

    parent_sha256: str
    int8: Int8Plan | None
    budget: Budget | None = None
    check_images: dict[str, Tensor]
    check_labels: Tensor
    least_agreement: float


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was found out about an artefact that was written; no `budget` where none was asked."""

    parities: list[Parity]
    budget: Outcome | None


def export_artifact(
    model: nn.Module,
    card: ModelCard,
    plan: ExportPlan,
    out: Path,
    force: bool,
    monitor: Monitor = silent,
) -> Exported:
    """Export `model` (eval mode, CPU) to the ONNX file `out` and return how it compares.

    Its fingerprint is written beside it; one that an earlier artefact left there is replaced.

    Raises:
        InputError: too little agreement; `out` is untouched then.
        BudgetError: the budget cannot be met; nothing is written either.
    """
    new_card = replace(card, parent_sha256=plan.parent_sha256)
    # Both files are whole before either takes its place.
    with (
        atomic_file(fingerprint_path(out), force=True) as marks,
        atomic_file(out, force) as partial,
        tempfile.TemporaryDirectory() as folder,
    ):
        graph = Path(folder) / "fp32.onnx"
        export_fp32(model, card.input_shape, graph)
        outcome = None
        if plan.int8 is not None:
            images = plan.int8.calibration.numpy()
            maker = Quantiser(graph, Path(folder), images, plan.int8.target, plan.int8.method)
            fp32_card, new_card = new_card, plan.int8.applied_to(new_card)
            lower = Path(folder) / "lower.onnx"
            if plan.budget is not None:
                finish(graph, fp32_card)
                finished = _Finished(maker, new_card)
                outcome = search(graph, finished, plan.budget, Path(folder), monitor)
                new_card = replace(new_card, recipe=new_card.recipe | outcome.recipe())
            maker.make(lower, outcome.in_float if outcome else ())
            graph = lower
        finish(graph, new_card)
        parities = compare(model, graph, plan.check_images, plan.check_labels)
        require_agreement(parities, plan.least_agreement)
        write_fingerprint(marks, _fingerprint(graph, card.classes, plan.check_images), force=False)
        shutil.copyfile(graph, partial)
    return Exported(parities=parities, budget=outcome)


class _Finished:
    """A maker whose artefacts carry their card, since a runtime reads its options there."""

    def __init__(self, maker: Maker, card: ModelCard) -> None:
        self.layers = maker.layers
        self._maker, self._card = maker, card

    def make(self, path: Path, in_float: Collection[Layer] = ()) -> None:
        """Write the ONNX file `path`, with the layers `in_float` in float32."""
        self._maker.make(path, in_float)
        finish(path, self._card)


def _fingerprint(graph: Path, classes: int, images: dict[str, Tensor]) -> Fingerprint:
    """A few of the images of each kind, on the 8-bit grid, and what the runtime makes of them."""
    share = -(-SAMPLES // len(images))
    some = torch.cat([kind[:share] for kind in images.values()])[:SAMPLES]
    levels = (some * 255).round().to(torch.uint8).numpy()
    device = devices.probe("auto")
    with open_backend("ort", graph, None) as backend:
        origin = Origin(
            artifact_sha256=sha256_file(graph),
            backend=backend.info,
            architecture=device.architecture,
            cpu=device.cpu,
        )
        logits = stored_logits(backend, levels, classes)
    return Fingerprint(images=levels, logits=logits, origin=origin)
