"""What is told of a set: before it is made, of its model and its budget, and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ard.commands import flags as o
from edge_bench.terminal.console import print_json, say, say_aside, warn

if TYPE_CHECKING:
    from ard.attacks.victims import Victim
    from ard.data.sources import Source
    from edge_bench.core.spec import AttackSpec


def compared(victim: Victim, threat: str, clean: Source, spec: AttackSpec, device: str) -> Victim:
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


def warn_of_the_grid(budget: float, norm: str) -> None:
    """Say what the 8-bit grid takes off a budget."""
    from edge_bench.files.sets import grid_radius

    if norm == "linf" and abs(budget * 255 - grid_radius(budget)) > 1e-6:
        warn(
            f"--epsilon {budget:g} is {budget * 255:.2f} steps of the 8-bit grid; "
            f"{grid_radius(budget)} are used (--off-grid keeps them all)"
        )


def print_transfer(out: Path, victim: Victim, device: str) -> None:
    """What the model that a transferred set is meant for keeps of it."""
    from ard.crafting.craft import judge_set

    kept = judge_set(victim.module, out, device)
    say_aside(f"{victim.path.name} keeps {100 * kept:.1f} % on them")


def print_set(out: Path, model: Path, json_summary: bool) -> None:
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
        figures: dict[str, Any] = {"told_apart": float(found.source_success.mean())}
        if manifest.threat != "differential":
            figures = {"source_accuracy": robust}
            figures |= class_figures({"source": kept}, found.labels, names)
        print_json(
            {
                "set": str(out),
                "samples": manifest.samples,
                "on_grid": manifest.on_grid,
                "threat": manifest.threat,
                "source_sha256": manifest.source_sha256,
                **figures,
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
