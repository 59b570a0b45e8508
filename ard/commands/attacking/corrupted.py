"""Sets of corrupted images, which are no attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ard.commands.attacking.flags import OF_CRAFTING, refuse
from ard.commands.attacking.images import clean_images
from ard.commands.attacking.told import print_set
from edge_bench.terminal.console import progress

if TYPE_CHECKING:
    from ard.commands.attacking.job import Job


def corrupt(job: Job, text: str) -> None:
    """Corrupt clean images, those of a dataset or the user's own."""
    from ard.crafting.corrupt import corrupt_set
    from ard.crafting.corruptions import parse_corruption

    flags, victim = job.flags, job.victim
    reason = "--corruption is no attack"
    others = ("--attack", "--epsilon", "--norm", "--restarts", "--import-key")
    refuse(flags, reason, *OF_CRAFTING, *others)
    name, severity = parse_corruption(text)
    with progress(f"corrupt {text}") as report_progress:
        corrupt_set(
            victim,
            clean_images(job),
            name,
            severity,
            flags.out,
            seed=flags.seed,
            force=flags.force,
            torch_device=job.device,
            world=job.world,
            report_progress=report_progress,
        )
    if job.world.leads:
        print_set(flags.out, victim.path, flags.json_summary)
