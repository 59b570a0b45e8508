"""The whole export: graph, INT8 or FP16, card and parity check, and only then the file."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from deploy.export import export_fp32, finish
from deploy.half import convert_fp16
from deploy.parity import Parity, compare, levels_of, require_agreement
from deploy.pixels import read_levels
from deploy.quantize import quantize_int8, target_named
from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.backends.ort import image_input
from edge_bench.bench import BenchOptions, prepare, stored_logits
from edge_bench.errors import InputError
from edge_bench.fingerprint import (
    SAMPLES,
    Fingerprint,
    Origin,
    fingerprint_path,
    write_fingerprint,
)
from edge_bench.onnx_file import read_onnx
from edge_bench.spec import ModelCard
from edge_bench.store import atomic_file, sha256_file

INPUTS = ("float32", "uint8")
LEAST_FIDELITY = 0.999
"""Of the FP32 graph that INT8 and FP16 are made from: the exporter's errors are none of theirs."""
RESOLUTIONS = {"fp32": 0.0, "fp16": 2.0**-10, "int8": 0.0}
"""Of logits, relative, by precision: one step of float16, in which two of them may become equal."""
REMEDIES = {
    "fp32": "see that the model in eval mode depends on its images alone, or lower --min-agreement",
    "fp16": "keep more nodes in float32, export without --fp16, or lower --min-agreement",
    "int8": "try another --target or more --calibration-images, or lower --min-agreement",
}
"""By precision, where an artefact agrees too little."""


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What to export and what it must live up to.

    Attributes:
        parent_sha256: of the weights.
        int8_target: key of `quantize.TARGETS`; None exports fp32, or fp16.
        fp16: export float16 with float32 input and output.
        keep: names of nodes that stay in float32 in an fp16 artefact.
        input: one of INPUTS: float32 images (B, C, H, W) in [0, 1], or uint8 ones (B, H, W, C).
        batch_size: the only batch size that the artefact takes; None leaves it free.
        calibration: images (N, C, H, W) in [0, 1] from the training set; for INT8 only.
        check_images: images (N, C, H, W) in [0, 1] by kind, for the parity check.
        check_labels: their labels (N,).
        least_agreement: fraction of equal classes below which nothing is written.
    """

    parent_sha256: str
    int8_target: str | None
    fp16: bool = False
    keep: tuple[str, ...] = ()
    input: str = "float32"
    batch_size: int | None = None
    calibration: Tensor
    check_images: dict[str, Tensor]
    check_labels: Tensor
    least_agreement: float

    def __post_init__(self) -> None:
        if self.int8_target is not None:
            target_named(self.int8_target)
            if self.fp16:
                raise InputError("--int8 and --fp16: an artefact has one precision; give one")
        if self.input not in INPUTS:
            raise InputError(f"--input {self.input}: expected {' or '.join(INPUTS)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"--batch {self.batch_size}: expected 1 or more")

    @property
    def precision(self) -> str:
        """The precision of the artefact, as its card says it."""
        return "fp16" if self.fp16 else "fp32" if self.int8_target is None else "int8"


def export_artifact(
    model: nn.Module, card: ModelCard, plan: ExportPlan, out: Path, force: bool
) -> list[Parity]:
    """Export `model` (eval mode, CPU) to the ONNX file `out` and return how it compares.

    Its fingerprint is written beside it; one that an earlier artefact left there is replaced.

    Raises:
        InputError: too little agreement, of the artefact or of the FP32 graph that it is made
            from; `out` is untouched then.
    """
    new_card = replace(card, parent_sha256=plan.parent_sha256, precision=plan.precision)
    # Both files are whole before either takes its place.
    with (
        atomic_file(fingerprint_path(out), force=True) as marks,
        atomic_file(out, force) as partial,
        tempfile.TemporaryDirectory() as folder,
    ):
        graph = Path(folder) / "fp32.onnx"
        # INT8 is calibrated on floats, and reads levels in a way of its own.
        as_levels = plan.input == "uint8"
        export_fp32(model, card.input_shape, graph, levels=as_levels and plan.precision != "int8")
        if plan.precision != "fp32":
            exported = compare(model, graph, plan.check_images, plan.check_labels)
            what = f"the FP32 graph that {plan.precision.upper()} is made from"
            require_agreement(exported, LEAST_FIDELITY, what, "report it with the architecture")
        if plan.precision == "fp16":
            graph, new_card = _half(graph, new_card, plan)
        elif plan.precision == "int8":
            graph, new_card = _int8(graph, new_card, plan)
        finish(graph, new_card, plan.batch_size)
        resolution, remedy = RESOLUTIONS[plan.precision], REMEDIES[plan.precision]
        parities = compare(model, graph, plan.check_images, plan.check_labels, resolution)
        require_agreement(parities, plan.least_agreement, "the artefact", remedy)
        write_fingerprint(marks, _fingerprint(graph, card.classes, plan.check_images), force=False)
        shutil.copyfile(graph, partial)
    return parities


def _half(graph: Path, card: ModelCard, plan: ExportPlan) -> tuple[Path, ModelCard]:
    """The FP16 form of an FP32 graph, and the card that says what stayed in float32."""
    half = graph.with_name("fp16.onnx")
    reads = image_input(list(read_onnx(graph).inputs), graph)
    levels = levels_of(torch.cat(list(plan.check_images.values()))).numpy()
    kept = convert_fp16(graph, half, prepare(levels, reads, BenchOptions()), plan.keep)
    return half, replace(card, recipe=card.recipe | {"fp16_keeps_float32": list(kept)})


def _int8(graph: Path, card: ModelCard, plan: ExportPlan) -> tuple[Path, ModelCard]:
    """The INT8 form of an FP32 graph of float images, and the card that says how it came about."""
    assert plan.int8_target is not None
    int8 = graph.with_name("int8.onnx")
    quantize_int8(graph, int8, plan.calibration.numpy(), plan.int8_target)
    if plan.input == "uint8":
        quantised = onnx.load(int8)
        read_levels(quantised)
        onnx.save(quantised, int8)
    recipe = card.recipe | {
        "int8_target": plan.int8_target,
        "calibration_images": len(plan.calibration),
    }
    options = target_named(plan.int8_target).session_options
    return int8, replace(card, recipe=recipe, session_options=options)


def _fingerprint(graph: Path, classes: int, images: dict[str, Tensor]) -> Fingerprint:
    """A few of the images of each kind, on the 8-bit grid, and what the runtime makes of them."""
    share = -(-SAMPLES // len(images))
    some = torch.cat([kind[:share] for kind in images.values()])[:SAMPLES]
    levels = levels_of(some).numpy()
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
