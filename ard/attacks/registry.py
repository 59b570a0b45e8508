"""The attacks by name. To add one: a file here with a function of an `Attempt`, and an entry below.

Nothing here imports torch, so that help and messages can name every attack: an entry says where
its function is. An attack never grades itself: callers judge what it returns. What training
ascends is in `ard.methods.parts.inner`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec
from edge_bench.core.threats.attack import DIRECTIONS

if TYPE_CHECKING:
    from torch import Tensor

    from ard.attacks.attempt import Attempt


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An attack and what may be chosen about it.

    Attributes:
        run: where its function is, `FILE:FUNCTION` in this folder.
        source: the paper.
        steps: default number of gradient steps or queries; None where the attack chooses.
        step_size: default length of a step as a fraction of epsilon, from the number of steps;
            None where the attack chooses.
        aims: can be targeted.
        restarts: starts at random, so that several starts find more; any other has one.
        uses_gradients: otherwise it asks for scores alone.
        differential: attacks a pair (`differential.Pair`), to have the two disagree.
        distribution: the one that computes it, whose version belongs to its outcome. What is
            misclassified already it returns as it is.
        parts: the attacks that it stands for, one after another on what is left.
    """

    run: str
    source: str
    steps: int | None = None
    step_size: Callable[[int], float] | None = None
    aims: bool = False
    restarts: bool = False
    differential: bool = False
    uses_gradients: bool = True
    distribution: str | None = None
    parts: tuple[str, ...] = ()

    @property
    def climbs(self) -> bool:
        """Can it start from given images?"""
        return self.differential or (self.step_size is not None and self.steps is not None)

    @property
    def function(self) -> Callable[[Attempt], Tensor]:
        """The attack itself: an `Attempt` to images (B, C, H, W)."""
        file, name = self.run.split(":")
        found: Callable[[Attempt], Tensor] = getattr(import_module(f"ard.attacks.{file}"), name)
        return found


def _quarter(steps: int) -> float:
    """2/255 at 8/255, the field's."""
    return 1 / 4


def _even(steps: int) -> float:
    """Dong et al. 2018: the steps add up to epsilon."""
    return 1 / steps


def _trades(steps: int) -> float:
    """0.003 at 8/255: the step of the authors' evaluation (Zhang et al. 2019)."""
    return 0.003 / (8 / 255)


PYAUTOATTACK = "pyautoattack"
CROCE = "Croce and Hein 2020, arXiv 2003.01690"
ATTACKS: dict[str, Attack] = {
    "fgsm": Attack(run="fgsm:fgsm", source="Goodfellow et al. 2015, arXiv 1412.6572", aims=True),
    "mi_fgsm": Attack(
        run="mi_fgsm:mi_fgsm",
        source="Dong et al. 2018, arXiv 1710.06081",
        steps=10,
        step_size=_even,
        aims=True,
    ),
    "pgd": Attack(
        run="pgd:pgd",
        source="Madry et al. 2018, arXiv 1706.06083",
        steps=20,
        step_size=_quarter,
        aims=True,
        restarts=True,
    ),
    "pgd_trades": Attack(
        run="pgd:pgd",
        source="Zhang et al. 2019, arXiv 1901.08573",
        steps=20,
        step_size=_trades,
        aims=True,
        restarts=True,
    ),
    "cw": Attack(
        run="cw:cw",
        source="Carlini and Wagner 2017, arXiv 1608.04644",
        steps=30,
        step_size=_quarter,
        aims=True,
        restarts=True,
    ),
    "apgd_ce": Attack(run="autoattack:run_part", source=CROCE, distribution=PYAUTOATTACK),
    "apgd_t": Attack(run="autoattack:run_part", source=CROCE, distribution=PYAUTOATTACK),
    "fab_t": Attack(
        run="autoattack:run_part",
        source="Croce and Hein 2020, arXiv 1907.02044",
        distribution=PYAUTOATTACK,
    ),
    "square": Attack(
        run="autoattack:run_part",
        source="Andriushchenko et al. 2020, arXiv 1912.00049",
        steps=5000,
        uses_gradients=False,
        distribution=PYAUTOATTACK,
    ),
    "diva": Attack(
        run="differential:diva",
        source="Hao et al. 2022, arXiv 2204.10933",
        steps=20,
        step_size=_quarter,
        restarts=True,
        differential=True,
    ),
    "apgd_diva": Attack(
        run="differential:apgd_diva",
        source="Hao et al. 2022, arXiv 2204.10933, by the steps of " + CROCE,
        steps=100,
        restarts=True,
        differential=True,
    ),
    "apgd_apart": Attack(
        run="differential:apgd_apart",
        source="ours: what Hao et al. 2022 count, by the steps of " + CROCE,
        steps=100,
        restarts=True,
        differential=True,
    ),
    "autoattack": Attack(
        run="autoattack:autoattack",
        source=CROCE,
        distribution=PYAUTOATTACK,
        parts=("apgd_ce", "apgd_t", "fab_t", "square"),
    ),
}


def _known(differential: bool) -> str:
    return ", ".join(
        f"{name}N" if attack.steps else name
        for name, attack in ATTACKS.items()
        if attack.differential == differential
    )


KNOWN, KNOWN_DIFFERENTIAL = _known(False), _known(True)
"""The names as people type them, with N for a number of steps or queries."""

AT_RANDOM = ", ".join(name for name, attack in ATTACKS.items() if attack.restarts)
"""The names of those that start at random."""

MOST_DIGITS = 5


def needs_gradients(spec: AttackSpec) -> bool:
    """Does an attack, or a part of it, ask for gradients?"""
    return any(ATTACKS[part.name].uses_gradients for part in expand(spec))


def parse_attack(
    text: str,
    *,
    epsilon: float,
    norm: str = "linf",
    step_size: float | None = None,
    restarts: int = 1,
    seed: int = 0,
    target: str | None = None,
    direction: str | None = None,
) -> AttackSpec:
    """Read `fgsm`, `pgd20`, `cw30`, `square5000`, `apgd_ce` and so on into a specification.

    Example:
        spec = parse_attack("pgd20", epsilon=8 / 255)

    Raises:
        InputError: no such attack, a number of steps where there are none to choose, or a target
            for one that cannot aim.
    """
    match = re.fullmatch(r"([a-z_]+)(\d*)", text)
    kind = ATTACKS.get(match[1]) if match else None
    if match is None or kind is None or (match[2] and kind.steps is None):
        raise InputError(
            f"attack {text}: expected one of {KNOWN}, or {KNOWN_DIFFERENTIAL} (N steps or "
            "queries, such as pgd20)"
        )
    if len(match[2]) > MOST_DIGITS:
        raise InputError(f"attack {text}: expected fewer than {10**MOST_DIGITS} steps")
    if target is not None and not kind.aims:
        aiming = ", ".join(name for name, attack in ATTACKS.items() if attack.aims)
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
        restarts=restarts if kind.restarts else 1,
        seed=seed,
        target=target,
        direction=(direction or DIRECTIONS[0]) if kind.differential else None,
    )


def attack_label(spec: AttackSpec) -> str:
    """The inverse of `parse_attack`: name and steps; of a corruption, name and severity."""
    if spec.severity is not None:
        return f"{spec.name}:{spec.severity}"
    return spec.name if spec.steps is None else f"{spec.name}{spec.steps}"


def expand(spec: AttackSpec) -> list[AttackSpec]:
    """The attacks that an ensemble stands for, in its order; any other attack alone."""
    parts = ATTACKS[spec.name].parts
    return [replace(spec, name=name, steps=ATTACKS[name].steps) for name in parts] or [spec]


def named_parts(spec: AttackSpec) -> dict[str, AttackSpec]:
    """What `evaluate_all` runs for `spec`, by the name of its mask."""
    parts, label = expand(spec), attack_label(spec)
    if len(parts) == 1:
        return {label: spec}
    return {f"{label}: {attack_label(part)}": part for part in parts}
