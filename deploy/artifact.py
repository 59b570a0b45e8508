"""The whole export: graph, INT8, card and parity check, and only then the file."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from deploy.export import export_fp32, finish
from deploy.parity import Parity, compare, require_agreement
from deploy.qdq_network import QDQNetwork
from deploy.quantize import quantize_int8, target_named
from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.bench import stored_logits
from edge_bench.errors import InputError
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
class ExportPlan:
    """What to export and what it must live up to.

    Attributes:
        parent_sha256: of the weights.
        int8_target: key of `quantize.TARGETS`; None exports fp32.
        calibration: images (N, C, H, W) in [0, 1] from the training set; for INT8 only.
        check_images: images (N, C, H, W) in [0, 1] by kind, for the parity check.
        check_labels: their labels (N,).
        least_agreement: fraction of equal classes below which nothing is written.
    """

    parent_sha256: str
    int8_target: str | None
    calibration: Tensor
    check_images: dict[str, Tensor]
    check_labels: Tensor
    least_agreement: float


def export_artifact(
    model: nn.Module, card: ModelCard, plan: ExportPlan, out: Path, force: bool
) -> list[Parity]:
    """Export `model` (eval mode, CPU) to the ONNX file `out` and return how it compares.

    One that was trained as a QDQ network becomes that very graph, with the scales that it learnt.

    Its fingerprint is written beside it; one that an earlier artefact left there is replaced.

    Raises:
        InputError: unknown target, another one than the model was trained for, or too little
            agreement; `out` is untouched then.
    """
    if plan.int8_target is not None:
        target_named(plan.int8_target)
    if isinstance(model, QDQNetwork) and model.target != plan.int8_target:
        came = f"--int8 --target {plan.int8_target}" if plan.int8_target else "no --int8"
        raise InputError(
            f"--target: the weights were trained as INT8 for {model.target}, came {came}; give "
            f"--int8 --target {model.target}, or export the weights that --qat started from"
        )
    new_card = replace(card, parent_sha256=plan.parent_sha256)
    # Both files are whole before either takes its place.
    with (
        atomic_file(fingerprint_path(out), force=True) as marks,
        atomic_file(out, force) as partial,
        tempfile.TemporaryDirectory() as folder,
    ):
        graph = Path(folder) / "fp32.onnx"
        if isinstance(model, QDQNetwork):
            onnx.save(model.filled(), graph)
        else:
            export_fp32(model, card.input_shape, graph)
        if plan.int8_target is not None:
            recipe = card.recipe | {"int8_target": plan.int8_target}
            if not isinstance(model, QDQNetwork):
                int8 = Path(folder) / "int8.onnx"
                quantize_int8(graph, int8, plan.calibration.numpy(), plan.int8_target)
                recipe |= {"calibration_images": len(plan.calibration)}
                graph = int8
            options = target_named(plan.int8_target).session_options
            new_card = replace(new_card, precision="int8", recipe=recipe, session_options=options)
        finish(graph, new_card)
        parities = compare(model, graph, plan.check_images, plan.check_labels)
        require_agreement(parities, plan.least_agreement)
        write_fingerprint(marks, _fingerprint(graph, card.classes, plan.check_images), force=False)
        shutil.copyfile(graph, partial)
    return parities


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
