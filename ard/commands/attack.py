"""The command `attack`: adversarial sets to replay, crafted here or imported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ard.attacks.registry import KNOWN
from ard.commands import flags as o
from edge_bench.terminal.console import print_json, progress, say, say_aside, warn

if TYPE_CHECKING:
    from ard.attacks.victims import Victim
    from ard.data.sources import Source, SplitSource
    from ard.data.splits import Dataset
    from edge_bench.core.spec import AttackSpec


@dataclass(kw_only=True)
class AttackFlags:
    """The options of `attack`."""

    model: Annotated[
        Path, typer.Argument(help="Weights of teach or distill, or an ONNX file of anyone's.")
    ]
    out: o.Out
    attack_name: Annotated[
        str | None,
        typer.Option(
            "--attack",
            help=f"{KNOWN} (pgd20; square5000 for --threat blackbox); with --import, what to call "
            "it.",
        ),
    ] = None
    threat: Annotated[
        str | None,
        typer.Option(
            help="white-box (weights, or an ONNX file's own graph), bpda (an artefact's logits, "
            "--parent's gradients or those through its roundings), blackbox (scores alone) or "
            "transfer (on --from, for MODEL). Default: white-box or bpda."
        ),
    ] = None
    source: Annotated[
        Path | None,
        typer.Option("--from", help="With --threat transfer: the weights that are attacked."),
    ] = None
    parent: o.Parent = None
    backend: o.Backend = "ort"
    output: o.Output = None
    mean: o.GraphMean = None
    std: o.GraphStd = None
    epsilon: o.OptionalEpsilon = None
    norm: o.Norm = "linf"
    step_size: o.StepSize = None
    restarts: o.Restarts = 1
    target_class: o.TargetClass = None
    off_grid: Annotated[
        bool, typer.Option("--off-grid", help="Keep float images instead of 8-bit levels.")
    ] = False
    import_file: o.Import = None
    import_key: o.ImportKey = None
    images: o.Images = None
    limit: o.Limit = None
    dataset: o.OptionalDatasetName = None
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR
    download: o.Download = False
    image_size: o.ImageSize = None
    torch_device: o.TorchDevice = "auto"
    seed: o.Seed = 0
    force: o.Force = False
    json_summary: o.Json = False


def run_attack_command(flags: AttackFlags) -> None:
    """Craft an adversarial set, to be replayed on a device, or import one.

    A run that was stopped goes on where it was when the same command is given again.

    Example: ardx attack runs/student/student.safetensors --attack pgd20 --out sets/pgd20
    """
    from ard.attacks.victims import open_victim
    from edge_bench.files.store import refuse_existing

    refuse_existing(flags.out, flags.force)
    device = o.resolve_torch_device(flags.torch_device)
    foreign = o.foreign_of(
        flags.model,
        flags.mean,
        flags.std,
        flags.dataset,
        partial(_load, flags),
        needs_dataset=flags.images is None and flags.import_file is None,
    )
    with open_victim(
        flags.model,
        parent=flags.parent,
        backend=flags.backend,
        output=flags.output,
        torch_device=device,
        said=foreign.said,
    ) as victim:
        o.warn_of_saturation(victim.card, flags.backend)
        if flags.import_file is not None:
            _import(flags, flags.import_file, victim, device)
        else:
            o.refuse_beside("only --import reads it", {"--import-key": flags.import_key})
            _craft(flags, victim, device, foreign.data)


def _import(flags: AttackFlags, file: Path, victim: Victim, device: str) -> None:
    """Take the arrays of another library as a set."""
    from ard.crafting.foreign import parse_import_keys
    from ard.crafting.importing import import_set, imported_spec

    beside: dict[str, object] = {
        "--images": flags.images,
        "--image-size": flags.image_size if flags.dataset is None else None,
        "--limit": flags.limit if flags.dataset is None else None,
        "--threat": flags.threat,
        "--from": flags.source,
        "--step-size": flags.step_size,
        "--target-class": flags.target_class,
        "--off-grid": flags.off_grid or None,
    }
    o.refuse_beside("--import takes its images and their budget as they are", beside)
    source = None if flags.dataset is None else _test_images(flags, victim)
    with progress(f"import {file.name}") as report_progress:
        import_set(
            victim.module,
            victim.card,
            file,
            imported_spec(flags.attack_name, flags.epsilon, flags.norm, victim.card),
            flags.out,
            model_sha256=victim.sha256,
            keys=parse_import_keys(flags.import_key),
            source=source,
            force=flags.force,
            torch_device=device,
            report_progress=report_progress,
        )
    _print_set(flags.out, flags.model, flags.json_summary)


def _load(flags: AttackFlags, name: str) -> Dataset:
    from ard.data.datasets import load_dataset

    return load_dataset(name, flags.data_dir, download=flags.download, image_size=flags.image_size)


def _test_images(flags: AttackFlags, victim: Victim, data: Dataset | None = None) -> SplitSource:
    """The test images of --dataset (`data`, where they are loaded), or of the model's own."""
    from ard.data.datasets import matched
    from ard.data.sources import SplitSource
    from ard.data.splits import take_limit

    data = data or _load(flags, flags.dataset or victim.card.dataset)
    data = matched(flags.model, victim.card, data)
    o.tell_skipped(data.skipped)
    return SplitSource(
        take_limit(data.test, flags.limit), data.name, data.classes, data.class_names
    )


def _craft(flags: AttackFlags, victim: Victim, device: str, data: Dataset | None) -> None:
    """Attack clean images, those of a dataset or the user's own."""
    from ard.attacks.budget import budget_of
    from ard.attacks.registry import parse_attack
    from ard.attacks.victims import attacked_for, threat_named
    from ard.crafting.craft import craft_set
    from ard.data.sources import open_images
    from ard.evaluation.doubts import looks, rounded_away
    from edge_bench.files.sets import open_set

    threat = threat_named(flags.threat, victim, flags.source)
    budget = budget_of(flags.epsilon, flags.norm, victim.card)
    name = flags.attack_name or ("square" if threat == "black-box" else "pgd20")
    spec = parse_attack(
        name,
        epsilon=budget,
        norm=flags.norm,
        step_size=o.resolve_step_size(flags.step_size, flags.norm),
        restarts=flags.restarts,
        seed=flags.seed,
        target=flags.target_class,
    )
    if flags.images is not None:
        o.refuse_beside(
            f"--images {flags.images} is attacked instead", {"--dataset": flags.dataset}
        )
        clean: Source = open_images(
            flags.images, victim.card, image_size=flags.image_size, limit=flags.limit
        )
        o.tell_skipped(clean.skipped)
    else:
        clean = _test_images(flags, victim, data)
    if threat in ("white-box", "bpda"):
        victim = _compared(victim, threat, clean, spec, device)
    if not flags.off_grid:
        _warn_of_the_grid(budget, flags.norm)
    source = attacked_for(victim, threat, flags.source, device)
    for doubt in looks(source.module, clean.read(0, min(len(clean), 64)), device):
        warn(doubt.sentence)
    with progress(f"attack {name}") as report_progress:
        craft_set(
            source,
            clean,
            spec,
            flags.out,
            threat=threat,
            on_grid=not flags.off_grid,
            force=flags.force,
            torch_device=device,
            report_progress=report_progress,
        )
    for doubt in rounded_away(open_set(flags.out)):
        warn(doubt.sentence)
    if source is not victim:
        _print_transfer(flags.out, victim, device)
    _print_set(flags.out, source.path, flags.json_summary)


def _compared(victim: Victim, threat: str, clean: Source, spec: AttackSpec, device: str) -> Victim:
    """The victim, once its own graph, if gradients are read off it, was compared with its runtime.

    Raises:
        InputError: they compute something else.
    """
    from ard.attacks.agreement import IMAGES, checked
    from ard.attacks.victims import threat_named

    some = clean.read(0, min(len(clean), IMAGES))
    victim = checked(victim, some, spec, torch_device=device)
    for note in victim.notes:
        say_aside(note)
    threat_named(threat, victim, None)
    return victim


def _warn_of_the_grid(budget: float, norm: str) -> None:
    """Say what the 8-bit grid takes off a budget."""
    from edge_bench.files.sets import grid_radius

    if norm == "linf" and abs(budget * 255 - grid_radius(budget)) > 1e-6:
        warn(
            f"--epsilon {budget:g} is {budget * 255:.2f} steps of the 8-bit grid; "
            f"{grid_radius(budget)} are used (--off-grid keeps them all)"
        )


def _print_transfer(out: Path, victim: Victim, device: str) -> None:
    """What the model that a transferred set is meant for keeps of it."""
    from ard.crafting.craft import judge_set

    kept = judge_set(victim.module, out, device)
    say_aside(f"{victim.path.name} keeps {100 * kept:.1f} % on them")


def _print_set(out: Path, model: Path, json_summary: bool) -> None:
    """What a set holds, read back from the disk with every check that a replay makes."""
    from ard.attacks.registry import attack_label
    from edge_bench.files.sets import open_set

    found = open_set(out)
    manifest = found.manifest
    robust = 1 - float(found.source_success.mean())
    if json_summary:
        print_json(
            {
                "set": str(out),
                "samples": manifest.samples,
                "on_grid": manifest.on_grid,
                "threat": manifest.threat,
                "source_sha256": manifest.source_sha256,
                "source_accuracy": robust,
            }
        )
        return
    budget = o.render_budget(manifest.attack.epsilon, manifest.attack.norm)
    say(
        f"{out}: {manifest.samples} images, {attack_label(manifest.attack)}, {budget}; "
        f"{model.name} keeps {100 * robust:.1f} % on them"
    )


attack = o.command("attack", AttackFlags, run_attack_command)
