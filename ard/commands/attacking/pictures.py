"""`attack --pictures`: pictures at the camera's size, attacked through the card's resize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ard.commands.attacking.flags import OF_IMAGES, refuse
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import print_json, progress, say, warn

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ard.attacks.victims import Victim
    from ard.commands.attacking.flags import AttackFlags
    from ard.processes.world import World
    from edge_bench.core.spec import AttackSpec


def refuse_what_does_not_fit(flags: AttackFlags, world: World) -> None:
    """Refuse what an attack on pictures does not heed, before a model is opened."""
    reason = "--pictures are attacked as the card says they become images"
    more = ("--corruption", "--refresh", "--import", "--import-key")
    refuse(flags, reason, *OF_IMAGES, *more, "--from", "--direction", "--off-grid")
    if world.size > 1:
        raise InputError(
            f"--pictures {flags.pictures}: are attacked by one process, and torchrun started "
            f"{world.size}; start it without torchrun"
        )
    if flags.threat not in (None, "white-box", "bpda"):
        raise InputError(
            f"--threat {flags.threat}: expected white-box or bpda with --pictures, which need "
            "gradients through the resize"
        )


def attack_pictures_of(
    flags: AttackFlags, folder: Path, victim: Victim, threat: str, spec: AttackSpec, device: str
) -> None:
    """Craft, and tell what the model keeps of it."""
    from ard.crafting.picture_attack import attack_pictures, disagreement

    with progress(f"attack {flags.attack_name or 'pgd20'}") as report_progress:
        made = attack_pictures(
            victim,
            folder,
            spec,
            flags.out,
            threat=threat,
            force=flags.force,
            torch_device=device,
            report_progress=report_progress,
        )
    if sentence := disagreement(made.apart):
        warn(sentence)
    clean, kept = _share(made.right), _share(made.kept)
    if flags.json_summary:
        print_json(
            {
                "pictures": str(flags.out),
                "samples": len(made.kept),
                "threat": threat,
                "source_sha256": victim.sha256,
                "clean_accuracy": clean,
                "source_accuracy": kept,
                "resize_apart_levels": made.apart,
            }
        )
        return
    say(
        f"{flags.out}: {len(made.kept)} pictures at their own size; by Pillow's resize "
        f"{victim.path.name} keeps {100 * kept:.1f} % of them, of {100 * clean:.1f} % unattacked "
        f"(torch's resize is within {made.apart:.2f} levels of Pillow's)"
    )


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean())
