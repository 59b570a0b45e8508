"""The command that makes an artefact of a learned model: `export`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ard.commands import flags as o
from ard.commands.datasets import dataset_for, load_named
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import print_json, print_table, progress, put, say

if TYPE_CHECKING:
    from ard.exporting.precision import DropOptions
    from deploy.allowed_drop.terms import Outcome
    from deploy.artifact import Exported
    from deploy.onnx_export.parity import Parity

Precision = "Precision"
CALIBRATION_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """The options of `export`."""

    model: Annotated[
        Path,
        typer.Argument(help="Weights of teach or distill, or an ONNX file in floats of anyone's."),
    ]
    out: o.Out
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to static INT8 (QDQ).")] = False
    target: Annotated[
        str | None,
        typer.Option(
            help=f"INT8 settings: {o.DEFAULT_TARGET} (default), x86-vnni (for processors with "
            "VNNI: it saturates on others), arm, tensorrt, tensorrt-rtx, or auto for those of this "
            "machine; of weights by distill --qat, what they were trained for. For NVIDIA's two "
            "(in fp32 and FP16, too) its parser reads the artefact first, where it is installed.",
            rich_help_panel=Precision,
        ),
    ] = None
    calibration: Annotated[
        str | None,
        typer.Option(
            help="What sets the INT8 ranges: clean (default) training images, adversarial ones "
            "made on the weights, or mixed.",
            rich_help_panel=Precision,
        ),
    ] = None
    calibration_method: Annotated[
        str | None,
        typer.Option(
            help="How: minmax (default), entropy or percentile.", rich_help_panel=Precision
        ),
    ] = None
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Convert to float16, for TensorRT and Arm.")
    ] = False
    input_type: Annotated[
        str,
        typer.Option(
            "--input",
            help="What the graph reads: float32 images NCHW in 0..1, or uint8 ones NHWC in 0..255.",
        ),
    ] = "float32"
    batch_size: Annotated[
        int | None,
        typer.Option("--batch", help="Bind the graph to this batch size; free by default.", min=1),
    ] = None
    calibration_images: Annotated[
        int | None,
        typer.Option(
            help=f"Training images that set the INT8 ranges. Default: {CALIBRATION_IMAGES}.",
            min=1,
            rich_help_panel=Precision,
        ),
    ] = None
    max_robust_drop: Annotated[
        float | None,
        typer.Option(
            help="Robust accuracy that the precision may cost, a fraction: keeps the fewest layers "
            "in float for it.",
            rich_help_panel=Precision,
        ),
    ] = None
    max_float_layers: Annotated[
        int | None,
        typer.Option(
            help="Most layers to keep in float; default: all but one.",
            min=0,
            rich_help_panel=Precision,
        ),
    ] = None
    budget_images: Annotated[
        int | None,
        typer.Option(
            help="Held-out training images for the budget: half of them decide, half report. "
            "Default: all, at most 1000.",
            rich_help_panel=Precision,
        ),
    ] = None
    pareto: Annotated[
        Path | None,
        typer.Option(
            help="Picture (.svg, .png) of accuracy, latency and size of all that the budget tried.",
            rich_help_panel=Precision,
        ),
    ] = None
    min_agreement: Annotated[
        float | None,
        typer.Option(
            help="Least share of equal classes with torch, or nothing is written. Default 0.999; "
            "0.9 for INT8, where the FP32 graph that is quantised must still reach 0.999, and 0.95 "
            "for weights that were trained as INT8.",
            min=0,
            max=1,
        ),
    ] = None
    output: o.Output = None
    mean: o.GraphMean = None
    std: o.GraphStd = None
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Write NAME.probe.onnx and NAME.probe.npz, too: with them `ardx bench --explain` "
            "says at which layer a board departs from what was validated here.",
        ),
    ] = False
    dataset: o.OptionalDatasetName = None
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR
    download: o.Download = False
    image_size: o.ImageSize = None
    resize: o.Resize = None
    seed: o.Seed = 0
    force: o.Force = False
    json_summary: o.Json = False


def run_export(flags: ExportFlags) -> None:
    """Export to ONNX, fp32, FP16 or INT8, checked on clean and adversarial images before written.

    An ONNX file that ardx did not write needs --dataset. What comes out of it takes images as all
    of ardx's artefacts do: its normalisation is inside, and it ends in logits.

    Example: ardx export student.safetensors --out student.onnx --int8 --target auto
    """
    from edge_bench.files.locks import writing

    _refuse_what_does_not_fit(flags)
    with writing(flags.out):
        _export(flags)


def _export(flags: ExportFlags) -> None:
    """What `export` does once the options are known to fit."""
    from ard.exporting.export import export
    from ard.models.parents import open_parent
    from ard.processes.world import ALONE
    from deploy.allowed_drop.terms import DropError
    from deploy.allowed_drop.tradeoff import as_json, draw
    from deploy.probing.reference import write_probe
    from edge_bench.files.store import atomic_file

    load = partial(load_named, flags, ALONE)
    foreign = o.foreign_of(flags.model, flags.mean, flags.std, flags.dataset, load)
    parent = open_parent(flags.model, foreign.said, flags.output)
    card = parent.card
    if card.recipe.get("qat"):
        o.refuse_beside(
            f"the INT8 ranges of {flags.model} were learnt in its training", _calibration_of(flags)
        )
    int8_target = o.target_of(flags.target or card.recipe.get("qat")) if flags.int8 else None
    data = dataset_for(flags, flags.model, card, foreign, ALONE)
    try:
        exported = export(
            parent,
            data,
            flags.out,
            int8_target=int8_target,
            calibration=flags.calibration or "clean",
            calibration_method=flags.calibration_method or "minmax",
            calibration_images=flags.calibration_images or CALIBRATION_IMAGES,
            fp16=flags.fp16,
            target=_float_target(flags),
            budget=_budget_of(flags),
            input_type=flags.input_type,
            batch_size=flags.batch_size,
            least_agreement=flags.min_agreement,
            seed=flags.seed,
            force=flags.force,
            monitor=progress,
        )
    except DropError as missed:
        if flags.json_summary:
            print_json({"artifact": None, "budget": as_json(missed.outcome)})
        else:
            _print_budget(missed.outcome)
        raise
    if flags.probe:
        write_probe(flags.out, flags.force)
    if flags.pareto is not None and exported.budget is not None:
        with atomic_file(flags.pareto, flags.force) as picture:
            draw(exported.budget, picture)
    _tell(flags, exported, int8_target)


export_command = o.command("export_command", ExportFlags, run_export)


def _refuse_what_does_not_fit(flags: ExportFlags) -> None:
    """Refuse options that exclude one another, and files that exist, before anything is read."""
    from deploy.allowed_drop.tradeoff import require_picture
    from deploy.plan import INPUTS
    from edge_bench.explain.probe_file import graph_path, reference_path
    from edge_bench.files.kinds import Kind, kind_of
    from edge_bench.files.store import refuse_existing_file, refuse_read

    if kind_of(flags.out) is not Kind.ONNX:
        raise InputError(f"--out {flags.out}: expected a file name that ends in .onnx")
    refuse_read("--out", flags.out, [flags.model])
    if flags.int8 and flags.fp16:
        raise InputError("--int8 and --fp16: an artefact has one precision; give one of them")
    if flags.input_type not in INPUTS:
        raise InputError(f"--input {flags.input_type}: expected {' or '.join(INPUTS)}")
    if not flags.int8:
        _refuse_int8_choices(flags)
    if flags.max_robust_drop is not None and not (flags.int8 or flags.fp16):
        raise InputError(
            f"--max-robust-drop {flags.max_robust_drop:g}: chooses what stays in float of a lower "
            "precision; add --int8 or --fp16, or leave it out"
        )
    if flags.max_robust_drop is None:
        o.refuse_beside(
            "belongs to a robustness budget, and no --max-robust-drop was given",
            {
                "--max-float-layers": flags.max_float_layers,
                "--budget-images": flags.budget_images,
                "--pareto": flags.pareto,
            },
        )
    if flags.pareto is not None:
        require_picture(flags.pareto)
        refuse_existing_file(flags.pareto, flags.force)
    refuse_existing_file(flags.out, flags.force)
    if flags.probe:
        for path in (graph_path(flags.out), reference_path(flags.out)):
            refuse_existing_file(path, flags.force)


def _refuse_int8_choices(flags: ExportFlags) -> None:
    for option, value in _calibration_of(flags).items():
        if value is not None:
            raise InputError(
                f"{option} {value}: chooses INT8 settings; add --int8, or leave it out"
            )
    _float_target(flags)


def _calibration_of(flags: ExportFlags) -> dict[str, object | None]:
    """The options that set the INT8 ranges."""
    return {
        "--calibration": flags.calibration,
        "--calibration-method": flags.calibration_method,
        "--calibration-images": flags.calibration_images,
    }


def _float_target(flags: ExportFlags) -> str | None:
    """The target of fp32 or FP16, whose parser is to read the artefact."""
    from deploy.quantization.targets import target_named

    if flags.target is None or flags.int8:
        return None
    target = o.target_of(flags.target)
    if not target_named(target).compilers:
        raise InputError(
            f"--target {flags.target}: chooses INT8 settings; add --int8, or leave it out"
        )
    return target


def _budget_of(flags: ExportFlags) -> DropOptions | None:
    """What the precision may cost, where it was said."""
    from ard.exporting.precision import DropOptions

    if flags.max_robust_drop is None:
        return None
    return DropOptions(
        max_drop=flags.max_robust_drop,
        images=flags.budget_images,
        max_float_layers=flags.max_float_layers,
    )


def _tell(flags: ExportFlags, exported: Exported, int8_target: str | None) -> None:
    """Print what was written and how far it agrees with torch."""
    from dataclasses import asdict

    from deploy.allowed_drop.tradeoff import as_json
    from edge_bench.files.store import sha256_file

    if flags.json_summary:
        checks = [asdict(parity) for parity in exported.parities]
        summary: dict[str, Any] = {"artifact": str(flags.out), "sha256": sha256_file(flags.out)}
        summary |= {"int8_target": int8_target, "parity": checks, "parser": exported.parser}
        if exported.budget is not None:
            summary["budget"] = as_json(exported.budget)
        print_json(summary)
        return
    if exported.budget is not None:
        _print_budget(exported.budget)
    precision = f"int8 {int8_target}" if flags.int8 else "fp16" if flags.fp16 else "fp32"
    read = f", read by {exported.parser}" if exported.parser else ""
    _print_parities(f"{flags.out} ({precision}{read})", exported.parities)


def _print_budget(outcome: Outcome) -> None:
    from deploy.allowed_drop import tradeoff

    if outcome.strains:
        title = f"what each of {outcome.layers} layers does alone to the fp32 network, the largest"
        print_table(title, tradeoff.STRAIN_HEADER, tradeoff.strain_rows(outcome))
    rows = tradeoff.trial_rows(outcome)
    print_table("tried, on the images that decide", tradeoff.TRIAL_HEADER, rows)
    if outcome.reported:
        rows = tradeoff.report_rows(outcome)
        print_table("on the images that did not decide", tradeoff.REPORT_HEADER, rows)
    for note in tradeoff.notes(outcome):
        say(note)
    put("")


def _print_parities(title: str, parities: list[Parity]) -> None:
    rows = [
        [
            parity.images,
            f"{parity.largest_difference:.2g}",
            f"{parity.agreement:.2%}",
            f"{100 * parity.torch_accuracy:.1f} %",
            f"{100 * parity.artifact_accuracy:.1f} %",
            str(parity.samples),
        ]
        for parity in parities
    ]
    header = ["held-out images", "largest logit difference", "same class", "torch", "onnx", "n"]
    print_table(title, header, rows)
