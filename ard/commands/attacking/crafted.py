"""Sets of attacked images, those of a dataset or of anyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ard.commands import flags as o
from ard.commands.attacking.images import clean_images
from ard.commands.attacking.pictures import attack_pictures_of
from ard.commands.attacking.told import (
    compared,
    print_set,
    print_transfer,
    warn_of_the_grid,
)
from ard.commands.attacking.unread import refuse_unread
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import progress, warn

if TYPE_CHECKING:
    from ard.commands.attacking.job import Job

DEFAULT_ATTACKS = {"black-box": "square", "differential": "apgd_apart100"}


def craft(job: Job) -> None:
    """Attack clean images, those of a dataset or the user's own."""
    from ard.attacks.budget import budget_of
    from ard.attacks.registry import parse_attack
    from ard.attacks.victims import attacked_for, threat_named
    from ard.crafting.craft import craft_set
    from ard.evaluation.doubts import looks, rounded_away
    from edge_bench.files.sets import open_set

    flags, victim, device, world = job.flags, job.victim, job.device, job.world
    threat = threat_named(flags.threat, victim, flags.source)
    _refuse_what_does_not_fit(job, threat)
    budget = budget_of(flags.epsilon, flags.norm, victim.card)
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
    refuse_unread([spec], flags.step_size, flags.restarts)
    clean = clean_images(job)
    if threat in ("white-box", "bpda"):
        victim = compared(victim, threat, clean, spec, device)
    if not flags.off_grid:
        warn_of_the_grid(budget, flags.norm)
    if flags.pictures is not None:
        attack_pictures_of(flags, flags.pictures, victim, threat, spec, device)
        return
    threads = o.threads_of(world)
    with attacked_for(victim, threat, flags.source, device, job.foreign.said, threads) as source:
        if source is not victim:
            source = compared(source, source.threat, clean, spec, device)
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
        print_transfer(flags.out, victim, device)
    print_set(flags.out, source.path, flags.json_summary)


def _refuse_what_does_not_fit(job: Job, threat: str) -> None:
    """Refuse a direction of one network alone, and images between levels for what reads levels."""
    from ard.models.deployed import reads_levels

    if threat != "differential":
        o.refuse_beside("it belongs to --threat differential", {"--direction": job.flags.direction})
    if job.flags.off_grid and reads_levels(job.victim.module):
        raise InputError(
            f"--off-grid: {job.victim.path} reads uint8 levels, which images between two of them "
            "could not be given to; leave --off-grid out"
        )
