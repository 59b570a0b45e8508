"""The command `attack`: adversarial sets to replay, crafted here or imported."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ard.commands import flags as o
from ard.commands.attacking.corrupted import corrupt
from ard.commands.attacking.crafted import craft
from ard.commands.attacking.flags import AttackFlags
from ard.commands.attacking.job import Job
from ard.commands.attacking.pictures import refuse_what_does_not_fit
from ard.commands.attacking.stored import refresh, take_import
from ard.commands.datasets import load_named
from edge_bench.core.errors import InputError
from edge_bench.terminal.console import muted
from edge_bench.terminal.torchrun import processes

if TYPE_CHECKING:
    from ard.processes.world import World


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
        partial(load_named, flags, world),
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
        job = Job(flags=flags, victim=victim, device=device, foreign=foreign, world=world)
        if flags.import_file is not None:
            take_import(job, flags.import_file)
        elif flags.refresh is not None:
            refresh(job, flags.refresh)
        elif flags.corruption is not None:
            corrupt(job, flags.corruption)
        else:
            o.refuse_beside("only --import reads it", {"--import-key": flags.import_key})
            craft(job)


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


attack = o.command("attack", AttackFlags, run_attack_command)
