"""Options of attacks that none of those which are asked for reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ard.attacks.registry import ATTACKS, attack_label
from edge_bench.core.errors import InputError

if TYPE_CHECKING:
    from edge_bench.core.spec import AttackSpec


def refuse_unread(specs: Iterable[AttackSpec], step_size: str | None, restarts: int) -> None:
    """Refuse a length of steps and a number of starts that would change nothing.

    One attack of several that reads an option is enough.

    Args:
        step_size, restarts: the values of --step-size and --restarts.

    Raises:
        InputError: names the option.
    """
    specs = list(specs)
    asked = ", ".join(dict.fromkeys(map(attack_label, specs))) or "clean"
    # The attacks that would take their place: no other threat is named.
    differential = any(ATTACKS[spec.name].differential for spec in specs)
    others = {name: it for name, it in ATTACKS.items() if it.differential == differential}
    if step_size is not None and all(spec.step_size is None for spec in specs):
        able = [f"{name}N" for name, attack in others.items() if attack.step_size]
        raise _unread(f"--step-size {step_size}", asked, able)
    if restarts > 1 and not any(ATTACKS[spec.name].restarts for spec in specs):
        able = [name for name, attack in others.items() if attack.restarts]
        raise _unread(f"--restarts {restarts}", asked, able)


def _unread(option: str, asked: str, able: list[str]) -> InputError:
    return InputError(
        f"{option}: {asked} would not read it; leave it out, or choose among {', '.join(able)}"
    )
