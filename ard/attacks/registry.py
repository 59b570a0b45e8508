"""Adversarial attacks on models with inputs in [0, 1], by name.

An attack never grades itself: callers judge what it returns. To add one: a function of an
`Attempt` and an entry in ATTACKS. What training ascends is in `inner`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ard.attacks.climbing import Attempt, cw, fgsm, margin, mi_fgsm, pgd
from ard.attacks.ensemble import PARTS, require_classes, run_part
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec

__all__ = [
    "ATTACKS",
    "attack_label",
    "expand",
    "margin",
    "named_parts",
    "parse_attack",
    "run_attack",
    "targets_of",
]


def autoattack(attempt: Attempt) -> Tensor:
    """Croce and Hein 2020: the parts of the standard ensemble, each on what the earlier ones left.

    Evaluation runs the parts one by one over the whole set instead (see `expand`), as the
    reference implementation does.
    """
    require_classes(attempt.spec.name, attempt.model, attempt.images)
    found = attempt.images.clone()
    for part in expand(attempt.spec):
        with torch.no_grad():
            left = (attempt.model(found).argmax(dim=1) == attempt.labels).nonzero().squeeze(1)
        if len(left) == 0:
            break
        rest = replace(attempt, spec=part, images=attempt.images[left], labels=attempt.labels[left])
        found[left] = run_part(rest)
    return found


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An attack and what may be chosen about it.

    Attributes:
        steps: default number of gradient steps or queries; None where the attack chooses.
        step_size: default length of a step as a fraction of epsilon, from the number of steps;
            None where the attack chooses.
        aims: can be targeted.
    """

    run: Callable[[Attempt], Tensor]
    steps: int | None = None
    step_size: Callable[[int], float] | None = None
    aims: bool = False


def _quarter(steps: int) -> float:
    """2/255 at 8/255, the field's."""
    return 1 / 4


def _even(steps: int) -> float:
    """Dong et al. 2018: the steps add up to epsilon."""
    return 1 / steps


def _trades(steps: int) -> float:
    """0.003 at 8/255: the step of the authors' evaluation (Zhang et al. 2019)."""
    return 0.003 / (8 / 255)


ATTACKS: dict[str, Kind] = {
    "fgsm": Kind(run=fgsm, aims=True),
    "mi_fgsm": Kind(run=mi_fgsm, steps=10, step_size=_even, aims=True),
    "pgd": Kind(run=pgd, steps=20, step_size=_quarter, aims=True),
    "pgd_trades": Kind(run=pgd, steps=20, step_size=_trades, aims=True),
    "cw": Kind(run=cw, steps=30, step_size=_quarter, aims=True),
    "apgd_ce": Kind(run=run_part),
    "apgd_t": Kind(run=run_part),
    "fab_t": Kind(run=run_part),
    "square": Kind(run=run_part, steps=5000),
    "autoattack": Kind(run=autoattack),
}
KNOWN = (
    "fgsm, mi_fgsmN, pgdN, pgd_tradesN, cwN (N steps, such as pgd20), apgd_ce, apgd_t, fab_t, "
    "squareN (N queries) or autoattack"
)
MOST_DIGITS = 5


def parse_attack(
    text: str,
    *,
    epsilon: float,
    norm: str = "linf",
    step_size: float | None = None,
    restarts: int = 1,
    seed: int = 0,
    target: str | None = None,
) -> AttackSpec:
    """Read `fgsm`, `pgd20`, `cw30`, `square5000`, `apgd_ce` and so on into a specification.

    Raises:
        InputError: no such attack, a number of steps where there are none to choose, or a target
            for one that cannot aim.
    """
    match = re.fullmatch(r"([a-z_]+)(\d*)", text)
    kind = ATTACKS.get(match[1]) if match else None
    if match is None or kind is None or (match[2] and kind.steps is None):
        raise InputError(f"attack {text}: expected {KNOWN}")
    if len(match[2]) > MOST_DIGITS:
        raise InputError(f"attack {text}: expected fewer than {10**MOST_DIGITS} steps")
    if target is not None and not kind.aims:
        aiming = ", ".join(name for name, kind in ATTACKS.items() if kind.aims)
        raise InputError(f"--target-class {target}: {text} cannot aim at a class; {aiming} can")
    steps = int(match[2]) if match[2] else kind.steps
    length = None
    if kind.step_size is not None and steps:
        length = step_size if step_size is not None else epsilon * kind.step_size(steps)
    return AttackSpec(
        name=match[1],
        norm=norm,
        epsilon=epsilon,
        step_size=length,
        steps=steps,
        restarts=restarts if kind.step_size is not None else 1,
        seed=seed,
        target=target,
    )


def attack_label(spec: AttackSpec) -> str:
    """The inverse of `parse_attack`: name and steps."""
    return spec.name if spec.steps is None else f"{spec.name}{spec.steps}"


def expand(spec: AttackSpec) -> list[AttackSpec]:
    """The attacks that `autoattack` stands for, in its order; any other attack alone."""
    if spec.name != "autoattack":
        return [spec]
    return [replace(spec, name=name, steps=ATTACKS[name].steps) for name in PARTS]


def named_parts(spec: AttackSpec) -> dict[str, AttackSpec]:
    """What `evaluate_all` runs for `spec`, by the name of its mask."""
    parts, label = expand(spec), attack_label(spec)
    if len(parts) == 1:
        return {label: spec}
    return {f"{label}: {attack_label(part)}": part for part in parts}


def targets_of(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, generator: torch.Generator
) -> Tensor | None:
    """The classes (B,) that a targeted attack aims at; None for an untargeted one.

    A sample whose label is the chosen class itself is aimed at the next class, so that reaching
    the target is always an error.
    """
    if spec.target is None:
        return None
    with torch.no_grad():
        logits: Tensor = model(images)
    classes = logits.shape[1]
    if spec.target == "least_likely":
        return logits.scatter(1, labels.unsqueeze(1), torch.inf).argmin(dim=1)
    if spec.target == "random":
        offset = torch.randint(1, classes, labels.shape, generator=generator).to(labels.device)
        return (labels + offset) % classes
    wanted = int(spec.target)
    if wanted >= classes:
        raise InputError(
            f"--target-class {wanted}: expected a class from 0 to {classes - 1}, least_likely or "
            "random"
        )
    target = torch.full_like(labels, wanted)
    return torch.where(target == labels, (target + 1) % classes, target)


def run_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    batch_index: int,
    *,
    stop_when_fooled: bool = False,
) -> Tensor:
    """Attack one batch (model in eval mode); the draws depend on the seed and batch alone.

    Args:
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        stop_when_fooled: leave a sample at the first image that the model gets wrong, which is all
            that an evaluation asks for; otherwise the attack goes on to the largest margin it
            finds, which transfers better.

    Returns:
        adversarial images inside the ball and the box.
    """
    generator = torch.Generator().manual_seed(spec.seed * 1_000_003 + batch_index)
    attempt = Attempt(
        model=model,
        images=images,
        labels=labels,
        spec=spec,
        generator=generator,
        targets=targets_of(model, images, labels, spec, generator),
        stop_when_fooled=stop_when_fooled,
    )
    return ATTACKS[spec.name].run(attempt)
