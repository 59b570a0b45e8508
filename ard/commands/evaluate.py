"""The command `evaluate`: robust accuracy on test images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ard.attacks.registry import KNOWN, KNOWN_DIFFERENTIAL
from ard.commands import flags as o
from ard.commands.attacking.unread import refuse_unread
from ard.commands.datasets import dataset_for, load_named
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import (
    muted,
    print_json,
    print_table,
    progress,
    say_aside,
    warn,
)
from edge_bench.terminal.torchrun import processes

if TYPE_CHECKING:
    from ard.attacks.victims import Victim
    from ard.data.splits import Split
    from ard.evaluation.ledger import Ledger
    from ard.evaluation.run import Evaluation, Result
    from ard.processes.world import World
    from edge_bench.core.spec import AttackSpec


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """The options of `evaluate`."""

    model: Annotated[
        Path, typer.Argument(help="Weights of teach or distill, or an ONNX file of anyone's.")
    ]
    attacks: Annotated[
        str,
        typer.Option(
            help=f"With commas: clean, {KNOWN}; beside the worst case, of an artefact and its "
            f"--parent: {KNOWN_DIFFERENTIAL}."
        ),
    ] = "clean,fgsm,pgd20,cw30"
    epsilon: o.OptionalEpsilon = None
    norm: o.Norm = "linf"
    step_size: o.StepSize = None
    restarts: o.Restarts = 1
    target_class: o.TargetClass = None
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="Every attack on every image; otherwise each on what the earlier ones left.",
        ),
    ] = False
    parent: o.Parent = None
    backend: o.Backend = "ort"
    output: o.Output = None
    mean: o.GraphMean = None
    std: o.GraphStd = None
    no_doubts: Annotated[
        bool, typer.Option("--no-doubts", help="Do not look for signs of false robustness.")
    ] = False
    limit: o.Limit = None
    out: Annotated[
        Path | None,
        typer.Option(help="JSON with per-sample masks; interrupted, the same command goes on."),
    ] = None
    sets: Annotated[
        Path | None,
        typer.Option(
            help="Folder to keep what each attack found in, as a set. Sets that are there stay, "
            "but for those of the same attacks with --force."
        ),
    ] = None
    dataset: o.OptionalDatasetName = None
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR
    download: o.Download = False
    image_size: o.ImageSize = None
    resize: o.Resize = None
    torch_device: o.TorchDevice = "auto"
    seed: o.Seed = 0
    force: o.Force = False
    json_summary: o.Json = False


def run_evaluate(flags: EvaluateFlags) -> None:
    """Robust accuracy on test images: of weights by white-box attacks, of an artefact by BPDA.

    An artefact answers through its own runtime. Its attacks climb along the gradients of the
    weights that it was exported from (--parent), or of its own graph, which is read into torch and
    compared with the runtime first; where the graph has operators that are not covered, they are
    named, and square is left. An ONNX file that ardx did not write needs --dataset.

    Below torchrun its processes take turns with batches of 250 images, and find what one finds.

    Example: ardx evaluate student-int8.onnx --parent student.safetensors --attacks pgd20,square
    """
    from edge_bench.files.locks import writing
    from edge_bench.files.store import refuse_existing_file, refuse_read

    if flags.out is not None:
        refuse_read("--out", flags.out, filter(None, (flags.model, flags.parent)))
    if flags.out is not None and processes() == 1:
        # Before torch is imported, which `joined` needs.
        refuse_existing_file(flags.out, flags.force)
    from ard.processes.torchrun import PATIENCE, joined
    from ard.processes.world import Place

    remedy = "start the same command again"
    if flags.out is not None:
        remedy += ", which goes on after the last whole attack"
    with (
        joined(Place(where="among the attacks", remedy=remedy), PATIENCE) as world,
        muted(not world.leads),
    ):
        if flags.out is None or not world.leads:
            _evaluate(flags, world)
            return
        refuse_existing_file(flags.out, flags.force)
        with writing(flags.out):
            # Another process may have written it just before.
            refuse_existing_file(flags.out, flags.force)
            _evaluate(flags, world)


evaluate = o.command("evaluate", EvaluateFlags, run_evaluate)


def _evaluate(flags: EvaluateFlags, world: World) -> None:
    """What `evaluate` does once its report is its own."""
    from ard.attacks.budget import budget_of
    from ard.attacks.victims import open_victim
    from ard.data.splits import take_limit
    from ard.evaluation.run import Evaluation

    o.check_shared(world, flags.model, flags.backend)
    device = world.own_device(o.resolve_torch_device(flags.torch_device))
    load = partial(load_named, flags, world)
    foreign = o.foreign_of(flags.model, flags.mean, flags.std, flags.dataset, load)
    opened = open_victim(
        flags.model,
        parent=flags.parent,
        backend=flags.backend,
        threads=o.threads_of(world),
        output=flags.output,
        torch_device=device,
        said=foreign.said,
    )
    with opened as victim:
        o.warn_of_saturation(victim.card, flags.backend)
        budget = budget_of(flags.epsilon, flags.norm, victim.card)
        data = dataset_for(flags, flags.model, victim.card, foreign, world)
        specs, differential = _specs(flags, budget)
        split = take_limit(data.test, flags.limit)
        victim = _checked(victim, split, [*specs, *differential], device)
        evaluation = Evaluation(
            victim=victim,
            split=split,
            dataset=data.name,
            specs=specs,
            differential=differential,
            each=flags.each,
            parent=flags.parent,
            torch_device=device,
            seed=flags.seed,
            sets=flags.sets,
        )
        ledger = _shared(flags, evaluation, world)
        result = evaluation.run(ledger, doubting=not flags.no_doubts, world=world, monitor=progress)
        if world.leads and (others := evaluation.other_sets()):
            warn(
                f"{flags.sets}: holds other sets ({', '.join(others)}), and bench replays every "
                "set of a folder; move them away if they are not meant"
            )
        if world.leads and foreign.data is not None and not flags.no_doubts:
            _warn_of_normalisation(evaluation, result)
    if world.leads:
        _tell(flags, evaluation, result, ledger)


def _shared(flags: EvaluateFlags, evaluation: Evaluation, world: World) -> Ledger | None:
    """What rank 0 goes on from, once all processes are seen to ask for the same."""
    from ard.crafting.craft import arithmetic
    from ard.evaluation.accuracy import BATCH_SIZE
    from ard.evaluation.ledger import Ledger
    from edge_bench.files.store import refuse_existing

    world.check_turns(len(evaluation.split), BATCH_SIZE)
    world.check_agreement(evaluation.asked() | arithmetic(evaluation.torch_device))
    if not world.leads:
        return None
    ledger = Ledger(flags.out, evaluation.asked()) if flags.out else None
    if flags.sets is not None and not (ledger and ledger.masks):
        refuse_existing(flags.sets, flags.force)
    return ledger


def _checked(victim: Victim, split: Split, specs: list[AttackSpec], torch_device: str) -> Victim:
    """The victim, its own graph compared with its runtime where any attack asks for gradients."""
    from ard.attacks.agreement import checked
    from ard.attacks.registry import needs_gradients

    climbing = [spec for spec in specs if needs_gradients(spec)]
    if climbing:
        victim = checked(victim, split, climbing[0], torch_device=torch_device)
    elif victim.own_graph is not None:
        victim = victim.blind(f"{victim.path} was asked for scores alone")
    for note in victim.notes:
        say_aside(note)
    return victim


def _warn_of_normalisation(evaluation: Evaluation, result: Result) -> None:
    from ard.evaluation.normalisations import doubt_of

    clean = float(result.masks["clean"].mean())
    if doubt := doubt_of(evaluation.victim, evaluation.split, clean):
        warn(doubt)


def _specs(flags: EvaluateFlags, epsilon: float) -> tuple[list[AttackSpec], list[AttackSpec]]:
    """The attacks that --attacks names, and the differential ones among them in both directions.

    The clean images are judged in any case.
    """
    from ard.attacks.registry import parse_attack
    from edge_bench.core.threats.attack import DIRECTIONS

    specs = [
        parse_attack(
            name.strip(),
            epsilon=epsilon,
            norm=flags.norm,
            step_size=o.resolve_step_size(flags.step_size, flags.norm),
            restarts=flags.restarts,
            seed=flags.seed,
            target=flags.target_class,
        )
        for name in flags.attacks.split(",")
        if name.strip() != "clean"
    ]
    refuse_unread(specs, flags.step_size, flags.restarts)
    if flags.target_class is not None and not specs:
        raise InputError(
            f"--target-class {flags.target_class}: clean images alone are judged, and no attack "
            "aims at a class; leave it out, or name attacks by --attacks"
        )
    differential = [
        replace(spec, direction=direction)
        for spec in specs
        if spec.direction is not None
        for direction in DIRECTIONS
    ]
    return [spec for spec in specs if spec.direction is None], differential


def _tell(
    flags: EvaluateFlags, evaluation: Evaluation, result: Result, ledger: Ledger | None
) -> None:
    """Print the table and write the masks, after the doubts."""
    from ard.attacks.budget import budget_of
    from ard.evaluation.run import as_json, record_of, rows
    from edge_bench.files.store import write_json

    for doubt in result.doubts:
        warn(doubt.sentence)
    if flags.out is not None and ledger is not None:
        write_json(flags.out, record_of(evaluation, result), flags.force)
        ledger.close()
    if flags.json_summary:
        print_json(as_json(evaluation, result))
        return
    victim = evaluation.victim
    budget = o.render_budget(budget_of(flags.epsilon, flags.norm, victim.card), flags.norm)
    title = f"{flags.model.name} on {evaluation.dataset}, {victim.threat} through {victim.runtime}"
    title += f", {budget}"
    print_table(title, ["attack", "accuracy", "95% interval", "n"], rows(evaluation, result))
