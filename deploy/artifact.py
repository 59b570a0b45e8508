"""The whole export: graph, INT8 or FP16, card and parity check, and only then the file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from deploy.allowed_drop.search import search, strains_of
from deploy.allowed_drop.terms import Maker, Outcome
from deploy.lowering.layers import Layer
from deploy.lowering.pixels import read_levels
from deploy.onnx_export.export import export_fp32, finish
from deploy.onnx_export.parity import Parity, compare, levels_of, require_agreement
from deploy.plan import ExportPlan
from deploy.qat.qdq_network import QDQNetwork
from deploy.quantization.half import HalfMaker
from deploy.quantization.quantize import Quantiser
from deploy.quantization.targets import require_parsed
from deploy.quantization.twin import open_as_target
from edge_bench import devices
from edge_bench.core.errors import InputError
from edge_bench.core.progress import Monitor, silent
from edge_bench.core.spec import ModelCard
from edge_bench.files.fingerprint import (
    SAMPLES,
    Fingerprint,
    Origin,
    fingerprint_path,
    write_fingerprint,
)
from edge_bench.files.store import atomic_file, sha256_file, sync
from edge_bench.robustness.inference import stored_logits

LEAST_FIDELITY = 0.999
"""Of the FP32 graph that INT8 and FP16 are made from: the exporter's errors are none of theirs."""
RESOLUTIONS = {"fp32": 0.0, "fp16": 2.0**-10, "int8": 0.0}
"""Of logits, relative, by precision: one step of float16, in which two of them may become equal."""
FLOAT = "fp32.onnx"
RANKED_ON = 64
"""Images on which layers are ranked, where an artefact agrees too little."""
REMEDIES = {
    "fp32": "see that the model in eval mode depends on its images alone, or lower --min-agreement",
    "fp16": "keep layers in float32 by --max-robust-drop, leave --fp16 out, or lower "
    "--min-agreement",
    "int8": "try another --target, more --calibration-images or --max-robust-drop, or lower "
    "--min-agreement",
}
"""By precision, where an artefact agrees too little."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was found out about an artefact that was written.

    Attributes:
        budget: None where none was asked for.
        parser: the vendor's parser that read it; None where none is here, or none will.
    """

    parities: list[Parity]
    budget: Outcome | None
    parser: str | None = None


def export_artifact(
    model: nn.Module,
    card: ModelCard,
    plan: ExportPlan,
    out: Path,
    force: bool,
    monitor: Monitor = silent,
    root: Path = devices.ROOT,
) -> Exported:
    """Export `model` (eval mode, CPU) to the ONNX file `out` and return how it compares.

    Example:
        exported = export_artifact(model, card, ExportPlan(...), Path("student.onnx"), force=False)

    One that was trained as a QDQ network becomes that very graph, with the scales that it learnt.

    Its fingerprint is written beside it; one that an earlier artefact left there is replaced. All
    that is measured of it but latency is what its target computes, whatever machine `root` shows.

    Raises:
        InputError: another target than the model was trained for, or too little agreement, of the
            artefact or of the FP32 graph that it is made from, or the parser of the target refuses
            it; `out` is untouched then.
        DropError: the budget cannot be met; nothing is written either.
    """
    new_card = replace(card, parent_sha256=plan.parent_sha256)
    with (
        _both_files(out, force) as (partial, marks),
        tempfile.TemporaryDirectory() as folder,
    ):
        graph, outcome = Path(folder) / f"{plan.precision}.onnx", None
        maker: Maker | None = None
        if isinstance(model, QDQNetwork):
            new_card = _trained(model, new_card, plan, graph)
        elif plan.precision == "fp32":
            export_fp32(model, card.input_shape, graph, levels=plan.input == "uint8")
        else:
            new_card, outcome, maker = _lowered(model, new_card, plan, graph, monitor, root)
        if plan.precision == "int8" and plan.input == "uint8":
            quantised = onnx.load(graph)
            read_levels(quantised)
            onnx.save(quantised, graph)
        finish(graph, new_card, plan.batch_size)
        parser = require_parsed(graph, plan.read_by) if plan.read_by else None
        resolution, remedy = RESOLUTIONS[plan.precision], REMEDIES[plan.precision]
        parities = compare(model, graph, plan.check_images, plan.check_labels, resolution, root)
        if maker is not None and min(each.agreement for each in parities) < plan.least_agreement:
            remedy = f"{_worst(maker, new_card, plan, Path(folder), monitor, root)}; {remedy}"
        require_agreement(parities, plan.least_agreement, "the artefact", remedy)
        fingerprint = _fingerprint(graph, card.classes, plan.check_images, root)
        write_fingerprint(marks, fingerprint, force=False)
        shutil.copyfile(graph, partial)
    return Exported(parities=parities, budget=outcome, parser=parser)


@contextmanager
def _both_files(out: Path, force: bool) -> Iterator[tuple[Path, Path]]:
    """Temporary paths of an artefact and of its fingerprint, whole before either takes its place.

    Whenever this process is killed, a new artefact has its fingerprint; where one is replaced, that
    which is there has its own or none, which `bench` allows, and never another's.
    """
    marks, replaces = fingerprint_path(out), out.exists()
    with ExitStack() as files:
        # The last of them is the first to take its place.
        order = (marks, out) if replaces else (out, marks)
        partial = {
            path: files.enter_context(atomic_file(path, force or path == marks)) for path in order
        }
        yield partial[out], partial[marks]
        if replaces:
            sync(partial[out])  # What could still fail, before anything is removed.
            marks.unlink(missing_ok=True)


def _trained(model: QDQNetwork, card: ModelCard, plan: ExportPlan, out: Path) -> ModelCard:
    """Write the graph that `model` was trained as, with the scales that it learnt; return its card.

    Raises:
        InputError: the plan is for another target or precision, or has a budget.
    """
    if plan.int8 is None or plan.int8.target != model.target:
        came = f"--int8 --target {plan.int8.target}" if plan.int8 else "no --int8"
        raise InputError(
            f"--target: the weights were trained as INT8 for {model.target}, came {came}; give "
            f"--int8 --target {model.target}, or export the weights that --qat started from"
        )
    if plan.budget is not None:
        raise InputError(
            "--max-robust-drop: the weights were trained as INT8 in every layer, so none can be "
            "kept in float; leave it out, or export the weights that --qat started from"
        )
    onnx.save(model.filled(), out)
    return plan.int8.applied_to(card)


def _lowered(
    model: nn.Module, card: ModelCard, plan: ExportPlan, out: Path, monitor: Monitor, root: Path
) -> tuple[ModelCard, Outcome | None, Maker]:
    """Write the graph in the plan's precision; its card, what the budget measured, its maker."""
    fp32, outcome = out.with_name(FLOAT), None
    # INT8 is calibrated on floats, and reads levels in a way of its own.
    levels = plan.input == "uint8" and plan.int8 is None
    export_fp32(model, card.input_shape, fp32, levels=levels)
    exported = compare(model, fp32, plan.check_images, plan.check_labels)
    what = f"the FP32 graph that {plan.precision.upper()} is made from"
    require_agreement(exported, LEAST_FIDELITY, what, "report it with the architecture")
    maker, lower = _maker(fp32, card, plan)
    if plan.budget is not None:
        # Trials read floats in batches of any size: what they compute is the same.
        finish(fp32, card)
        outcome = search(fp32, _Finished(maker, lower), plan.budget, out.parent, monitor, root)
        lower = replace(lower, recipe=lower.recipe | outcome.recipe())
    maker.make(out, outcome.in_float if outcome else ())
    return lower, outcome, maker


def _worst(
    maker: Maker, card: ModelCard, plan: ExportPlan, folder: Path, monitor: Monitor, root: Path
) -> str:
    """Which layers lose most in the lower precision, each alone in a network in float."""
    images = levels_of(plan.check_images["clean"][:RANKED_ON]).numpy()
    labels = plan.check_labels[:RANKED_ON].numpy()
    fp32 = folder / FLOAT
    finish(fp32, card)
    found = strains_of(fp32, _Finished(maker, card), images, labels, folder, monitor, root)
    named = ", ".join(f"{each.layer.name} (by {each.margin_shift:.2g})" for each in found[:3])
    return f"the layers that move the logits most, each alone, are {named}"


def _maker(fp32: Path, card: ModelCard, plan: ExportPlan) -> tuple[Maker, ModelCard]:
    """What makes artefacts of the plan's precision from an FP32 graph, and their card."""
    if plan.int8 is not None:
        assert plan.int8.calibration is not None, "ranges come from images"
        images = plan.int8.calibration.numpy()
        maker = Quantiser(fp32, fp32.parent, images, plan.int8.target, plan.int8.method)
        return maker, plan.int8.applied_to(card)
    levels = levels_of(torch.cat(list(plan.check_images.values()))).numpy()
    half = HalfMaker(fp32, fp32.parent, levels)
    recipe = card.recipe | {"fp16_keeps_float32": sorted(half.in_float32)}
    return half, replace(card, precision="fp16", recipe=recipe)


class _Finished:
    """A maker whose artefacts carry their card, since a runtime reads its options there."""

    def __init__(self, maker: Maker, card: ModelCard) -> None:
        self.layers = maker.layers
        self._maker, self._card = maker, card

    def make(self, path: Path, in_float: Collection[Layer] = ()) -> None:
        """Write the ONNX file `path`, with the layers `in_float` in float32."""
        self._maker.make(path, in_float)
        finish(path, self._card)


def _fingerprint(graph: Path, classes: int, images: dict[str, Tensor], root: Path) -> Fingerprint:
    """A few of the images of each kind, on the 8-bit grid, and what the runtime makes of them."""
    share = -(-SAMPLES // len(images))
    some = torch.cat([kind[:share] for kind in images.values()])[:SAMPLES]
    levels = levels_of(some).numpy()
    device = devices.probe("auto", root)
    with open_as_target(graph, root=root) as backend:
        origin = Origin(
            artifact_sha256=sha256_file(graph),
            backend=backend.info,
            architecture=device.architecture,
            cpu=device.cpu,
        )
        logits = stored_logits(backend, levels, classes)
    return Fingerprint(images=levels, logits=logits, origin=origin)
