"""Sets of what exists: another set made anew, or the arrays of another library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ard.commands.attacking.flags import OF_CRAFTING, OF_IMAGES, refuse
from ard.commands.attacking.images import test_images
from ard.commands.attacking.told import compared, print_set
from ard.commands.attacking.unread import refuse_unread
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import progress

if TYPE_CHECKING:
    from pathlib import Path

    from ard.commands.attacking.job import Job


def refresh(job: Job, folder: Path) -> None:
    """Attack what a stored set no longer fools."""
    from ard.attacks.registry import parse_attack
    from ard.crafting.refresh import StoredClean, refresh_set
    from edge_bench.files.sets import open_set

    flags = job.flags
    reason, more = "--refresh takes it from the set", ("--corruption", "--epsilon", "--norm")
    refuse(flags, reason, *OF_CRAFTING, *OF_IMAGES, *more, "--import-key")
    if flags.attack_name is None:
        refuse(flags, "--refresh takes it from the set without --attack", "--restarts", "--seed")
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
            target=made.target,
            direction=made.direction,
        )
        refuse_unread([spec], None, flags.restarts)
    victim = compared(job.victim, job.victim.threat, StoredClean(old), spec or made, job.device)
    with progress(f"refresh {folder.name}") as report_progress:
        refresh_set(
            victim,
            old,
            flags.out,
            spec=spec,
            force=flags.force,
            torch_device=job.device,
            world=job.world,
            report_progress=report_progress,
        )
    if job.world.leads:
        print_set(flags.out, victim.path, flags.json_summary)


def take_import(job: Job, file: Path) -> None:
    """Take the arrays of another library as a set."""
    from ard.crafting.foreign import parse_import_keys
    from ard.crafting.importing import import_set, imported_spec

    flags, victim, world = job.flags, job.victim, job.world
    if world.size > 1:
        raise InputError(
            f"--import {file}: is read from its start by one process, and torchrun started "
            f"{world.size}; start it without torchrun"
        )
    reason = "--import takes its images and their budget as they are"
    others = ("--images", "--corruption", "--refresh", "--restarts", "--seed")
    refuse(flags, reason, *OF_CRAFTING, *others)
    if flags.dataset is None:
        refuse(flags, reason, *OF_IMAGES)
    source = None if flags.dataset is None else test_images(job)
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
            torch_device=job.device,
            report_progress=report_progress,
        )
    print_set(flags.out, victim.path, flags.json_summary)
