"""The command `attack`: adversarial sets to replay, crafted here or imported."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ard.commands import flags as o
from ard.commands.attack_flags import AttackFlags
from ard.commands.attack_pictures import attack_pictures_of, refuse_what_does_not_fit
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import muted, print_json, progress, say, say_aside, warn
from edge_bench.terminal.torchrun import processes

if TYPE_CHECKING:
    from ard.attacks.victims import Victim
    from ard.data.sources import Source, SplitSource
    from ard.data.splits import Dataset
    from ard.processes.world import World
    from edge_bench.core.spec import AttackSpec


DEFAULT_ATTACKS = {"black-box": "square", "differential": "apgd_apart100"}


def run_attack_command(flags: AttackFlags) -> None:
    """Craft an adversarial set, to be replayed on a device, or import one.

    A run that was stopped goes on where it was when the same command is given again. Below torchrun
    its processes make a batch of 250 images each in turn, and the set is that of one process.

    Example: ardx attack runs/student/student.safetensors --attack pgd20 --out sets/pgd20

    Example: ardx attack int8.onnx --parent weights.safetensors --threat differential --out sets/d

    Example: ardx attack student.safetensors --corruption fog:3 --out sets/fog3

    Example: ardx attack student.safetensors --pictures photos --attack pgd20 --out crafted

    Example: ardx attack --refresh old/pgd20 --on new.safetensors --out sets/pgd20
    """
    from edge_bench.files.store import refuse_existing

    if processes() == 1:
        # Before torch is imported, which `joined` needs.
        refuse_existing(flags.out, flags.force)
    from ard.processes.torchrun import PATIENCE, joined
    from ard.processes.world import Place

    place = Place(
        where="among the batches",
        remedy="start the same command again, which goes on with the set that it began",
    )
    with joined(place, PATIENCE) as world, muted(not world.leads):
        model = _model_of(flags)
        o.check_shared(world, model, flags.backend)
        if world.leads:
            refuse_existing(flags.out, flags.force)
        if flags.pictures is not None:
            refuse_what_does_not_fit(flags, world)
        _attack(flags, model, world)


def _attack(flags: AttackFlags, model: Path, world: World) -> None:
    """What `attack` does once its processes have met."""
    from ard.attacks.victims import open_victim

    device = world.own_device(o.resolve_torch_device(flags.torch_device))
    foreign = o.foreign_of(
        model,
        flags.mean,
        flags.std,
        flags.dataset,
        partial(_load, flags, world),
        needs_dataset=all(
            given is None
            for given in (flags.images, flags.import_file, flags.refresh, flags.pictures)
        ),
    )
    with open_victim(
        model,
        parent=flags.parent,
        backend=flags.backend,
        threads=o.threads_of(world),
        output=flags.output,
        torch_device=device,
        said=foreign.said,
    ) as victim:
        o.warn_of_saturation(victim.card, flags.backend)
        if flags.import_file is not None:
            _import(flags, flags.import_file, victim, device, world)
        elif flags.refresh is not None:
            _refresh(flags, flags.refresh, victim, device, world)
        elif flags.corruption is not None:
            _corrupt(flags, flags.corruption, victim, device, foreign.data, world)
        else:
            o.refuse_beside("only --import reads it", {"--import-key": flags.import_key})
            _craft(flags, victim, device, foreign, world)


def _model_of(flags: AttackFlags) -> Path:
    """The value of MODEL or --on.

    Raises:
        InputError: neither or both, or --on without --refresh.
    """
    if flags.on is not None and flags.refresh is None:
        raise InputError(
            f"--on {flags.on}: belongs to --refresh; name the model before the options"
        )
    found = [path for path in (flags.model, flags.on) if path is not None]
    if len(found) != 1:
        raise InputError(
            "attack: expected one model, weights or an artefact (.onnx), as the argument MODEL or, "
            f"with --refresh, as --on, came {len(found)}"
        )
    return found[0]


def _refresh(flags: AttackFlags, folder: Path, victim: Victim, device: str, world: World) -> None:
    """Attack what a stored set no longer fools."""
    from ard.attacks.registry import parse_attack
    from ard.crafting.refresh import StoredClean, refresh_set
    from edge_bench.files.sets import open_set

    beside: dict[str, object] = {
        "--corruption": flags.corruption,
        "--threat": flags.threat,
        "--direction": flags.direction,
        "--from": flags.source,
        "--epsilon": flags.epsilon,
        "--step-size": flags.step_size,
        "--target-class": flags.target_class,
        "--off-grid": flags.off_grid or None,
        "--import-key": flags.import_key,
        "--images": flags.images,
        "--dataset": flags.dataset,
        "--image-size": flags.image_size,
        "--limit": flags.limit,
    }
    o.refuse_beside("--refresh takes it from the set", beside)
    old = open_set(folder)
    made = old.manifest.attack
    spec = None
    if flags.attack_name is not None:
        spec = parse_attack(
            flags.attack_name,
            epsilon=made.epsilon,
            norm=made.norm,
            restarts=flags.restarts,
            seed=flags.seed,
            direction=made.direction,
        )
    victim = _compared(victim, victim.threat, StoredClean(old), spec or made, device)
    with progress(f"refresh {folder.name}") as report_progress:
        refresh_set(
            victim,
            old,
            flags.out,
            spec=spec,
            force=flags.force,
            torch_device=device,
            world=world,
            report_progress=report_progress,
        )
    if world.leads:
        _print_set(flags.out, victim.path, flags.json_summary)


def _import(flags: AttackFlags, file: Path, victim: Victim, device: str, world: World) -> None:
    """Take the arrays of another library as a set."""
    from ard.crafting.foreign import parse_import_keys
    from ard.crafting.importing import import_set, imported_spec

    if world.size > 1:
        raise InputError(
            f"--import {file}: is read from its start by one process, and torchrun started "
            f"{world.size}; start it without torchrun"
        )
    beside: dict[str, object] = {
        "--images": flags.images,
        "--image-size": flags.image_size if flags.dataset is None else None,
        "--resize": flags.resize if flags.dataset is None else None,
        "--limit": flags.limit if flags.dataset is None else None,
        "--threat": flags.threat,
        "--direction": flags.direction,
        "--corruption": flags.corruption,
        "--refresh": flags.refresh,
        "--from": flags.source,
        "--step-size": flags.step_size,
        "--target-class": flags.target_class,
        "--off-grid": flags.off_grid or None,
    }
    o.refuse_beside("--import takes its images and their budget as they are", beside)
    source = None if flags.dataset is None else _test_images(flags, victim, world)
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
    _print_set(flags.out, victim.path, flags.json_summary)


def _corrupt(
    flags: AttackFlags,
    text: str,
    victim: Victim,
    device: str,
    data: Dataset | None,
    world: World,
) -> None:
    """Corrupt clean images, those of a dataset or the user's own."""
    from ard.crafting.corrupt import corrupt_set
    from ard.crafting.corruptions import parse_corruption

    beside: dict[str, object] = {
        "--attack": flags.attack_name,
        "--threat": flags.threat,
        "--direction": flags.direction,
        "--from": flags.source,
        "--epsilon": flags.epsilon,
        "--step-size": flags.step_size,
        "--target-class": flags.target_class,
        "--import-key": flags.import_key,
        "--off-grid": flags.off_grid or None,
    }
    o.refuse_beside("--corruption is no attack", beside)
    name, severity = parse_corruption(text)
    with progress(f"corrupt {text}") as report_progress:
        corrupt_set(
            victim,
            _clean_images(flags, victim, world, data),
            name,
            severity,
            flags.out,
            seed=flags.seed,
            force=flags.force,
            torch_device=device,
            world=world,
            report_progress=report_progress,
        )
    if world.leads:
        _print_set(flags.out, victim.path, flags.json_summary)


def _clean_images(flags: AttackFlags, victim: Victim, world: World, data: Dataset | None) -> Source:
    """The user's own images, or the test images of a dataset."""
    from ard.crafting.picture_attack import require_sizes
    from ard.data.sources import open_images

    own = flags.images or flags.pictures
    if own is None:
        return _test_images(flags, victim, world, data)
    if flags.pictures is not None:
        require_sizes(victim.card, flags.pictures)
    o.refuse_beside(f"--images {own} is attacked instead", {"--dataset": flags.dataset})
    clean = open_images(
        own,
        victim.card,
        image_size=flags.image_size,
        resize=flags.resize,
        limit=flags.limit,
    )
    o.tell_skipped(clean.skipped)
    return clean


def _load(flags: AttackFlags, world: World, name: str) -> Dataset:
    from ard.data.datasets import load_dataset

    return world.first_here(
        lambda: load_dataset(
            name,
            flags.data_dir,
            download=flags.download,
            image_size=flags.image_size,
            resize=flags.resize,
        )
    )


def _test_images(
    flags: AttackFlags, victim: Victim, world: World, data: Dataset | None = None
) -> SplitSource:
    """The test images of --dataset (`data`, where they are loaded), or of the model's own."""
    from ard.data.datasets import dataset_of, matched
    from ard.data.sources import SplitSource
    from ard.data.splits import take_limit

    if data is not None:
        data = matched(victim.path, victim.card, data)
    else:
        data = world.first_here(
            lambda: dataset_of(
                victim.path,
                victim.card,
                flags.dataset,
                flags.data_dir,
                download=flags.download,
                image_size=flags.image_size,
                resize=flags.resize,
            )
        )
    o.tell_skipped(data.skipped)
    return SplitSource(
        take_limit(data.test, flags.limit), data.name, data.classes, data.class_names
    )


def _craft(
    flags: AttackFlags, victim: Victim, device: str, foreign: o.Foreign, world: World
) -> None:
    """Attack clean images, those of a dataset or the user's own."""
    from ard.attacks.budget import budget_of
    from ard.attacks.registry import parse_attack
    from ard.attacks.victims import attacked_for, threat_named
    from ard.crafting.craft import craft_set
    from ard.evaluation.doubts import looks, rounded_away
    from edge_bench.files.sets import open_set

    threat = threat_named(flags.threat, victim, flags.source)
    budget = budget_of(flags.epsilon, flags.norm, victim.card)
    if threat != "differential":
        o.refuse_beside("it belongs to --threat differential", {"--direction": flags.direction})
    name = flags.attack_name or DEFAULT_ATTACKS.get(threat, "pgd20")
    spec = parse_attack(
        name,
        epsilon=budget,
        norm=flags.norm,
        step_size=o.resolve_step_size(flags.step_size, flags.norm),
        restarts=flags.restarts,
        seed=flags.seed,
        target=flags.target_class,
        direction=flags.direction,
    )
    clean = _clean_images(flags, victim, world, foreign.data)
    if threat in ("white-box", "bpda"):
        victim = _compared(victim, threat, clean, spec, device)
    if not flags.off_grid:
        _warn_of_the_grid(budget, flags.norm)
    if flags.pictures is not None:
        attack_pictures_of(flags, flags.pictures, victim, threat, spec, device)
        return
    threads = o.threads_of(world)
    with attacked_for(victim, threat, flags.source, device, foreign.said, threads) as source:
        if source is not victim:
            source = _compared(source, source.threat, clean, spec, device)
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
                world=world,
                report_progress=report_progress,
            )
    if not world.leads:
        return
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
    from edge_bench.statistics.class_figures import by_class, class_figures, named, worst
    from edge_bench.statistics.metrics import encode_mask

    found = open_set(out)
    manifest = found.manifest
    robust = 1 - float(found.source_success.mean())
    kept, names = encode_mask(~found.source_success), named(manifest.class_names)
    if json_summary:
        print_json(
            {
                "set": str(out),
                "samples": manifest.samples,
                "on_grid": manifest.on_grid,
                "threat": manifest.threat,
                "source_sha256": manifest.source_sha256,
                "source_accuracy": robust,
                **class_figures({"source": kept}, found.labels, names),
            }
        )
        return
    budget = f", {o.render_budget(manifest.attack.epsilon, manifest.attack.norm)}"
    if manifest.attack.severity is not None:
        budget = ""
    told = f"{model.name} keeps {100 * robust:.1f} % on them"
    if manifest.threat == "differential":
        apart = f"{100 * (1 - robust):.1f} %"
        told = f"tells {model.name} and its parent apart on {apart} of them"
    say(f"{out}: {manifest.samples} images, {attack_label(manifest.attack)}{budget}; {told}")
    if manifest.threat == "differential":
        return
    lowest = worst(by_class(kept, found.labels, names))
    say(
        f"worst class: {lowest.name}, of whose {lowest.samples} images it keeps "
        f"{100 * lowest.accuracy:.1f} %"
    )


attack = o.command("attack", AttackFlags, run_attack_command)
