"""A policy: what a report is held to, how sure the verdict must be, and what is excused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InputError
from edge_bench.devices import DEVICES
from edge_bench.files.store import parsed_toml
from edge_bench.policy.condition import AT_LEAST, Condition, parse_condition
from edge_bench.policy.outcome import TIERS

VERSION = 1
EXIT, FAIL, PASS = "exit", "fail", "pass"
INCONCLUSIVES = (EXIT, FAIL, PASS)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Conditions, and how they are decided.

    Attributes:
        conditions: in the order of the file, the critical ones first.
        confidence: of the intervals that decide, in (0.5, 1); None compares what was observed.
        inconclusive: what a condition comes to whose limit lies within the interval: `exit` (exit
            code 4), `fail` or `pass`.
        max_age_days: of a report; None where age does not matter.
        device: class of the device that it must have been measured on; None for any.
        excuse: parts of the sentences of doubts that are known and accepted.
    """

    conditions: tuple[Condition, ...]
    confidence: float | None = None
    inconclusive: str = EXIT
    max_age_days: float | None = None
    device: str | None = None
    excuse: tuple[str, ...] = ()


MOST_SURE = 0.999999
CONFIDENCES = f"a number between 0.5 and 1, such as 0.95 ({MOST_SURE} at most)"


def is_confidence(value: float) -> bool:
    """Is it a confidence to decide by? Nearer to 1, floats cannot tell it from certainty."""
    return 0.5 < value <= MOST_SURE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)


FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "schema_version": (str(VERSION), lambda value: value == VERSION and _is_number(value)),
    "confidence": (
        CONFIDENCES,
        lambda value: _is_number(value) and is_confidence(value),
    ),
    "inconclusive": (
        " or ".join(INCONCLUSIVES),
        lambda value: isinstance(value, str) and value in INCONCLUSIVES,
    ),
    "max_age_days": ("a number above 0", lambda value: _is_number(value) and 0 < value < inf),
    "device": (" or ".join(DEVICES), lambda value: isinstance(value, str) and value in DEVICES),
    "excuse": ("a list of parts of sentences", _are_texts),
    **dict.fromkeys(TIERS, ("a list of conditions", _are_texts)),
}
"""What a policy may say: the value in words, and whether one fits."""


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        InputError: no TOML, an unknown name, a value of another kind, or a contradiction.
    """
    given = parsed_toml(path, "a policy", 'critical = ["worst_case >= 0.45"]')
    _check_fields(given, path)
    conditions = tuple(
        parse_condition(text, tier, f"{path}: {tier}")
        for tier in TIERS
        for text in given.get(tier, [])
    )
    check_conditions(conditions, str(path))
    return Policy(
        conditions=conditions,
        confidence=given.get("confidence"),
        inconclusive=given.get("inconclusive", EXIT),
        max_age_days=given.get("max_age_days"),
        device=given.get("device"),
        excuse=tuple(given.get("excuse", [])),
    )


def check_conditions(conditions: tuple[Condition, ...], where: str) -> None:
    """Refuse what no report can meet, or what says the same thing twice.

    Raises:
        InputError: no condition at all, one that stands twice, or a floor above a ceiling.
    """
    if not conditions:
        raise InputError(
            f'{where}: nothing to check; give a condition such as critical = ["worst_case >= 0.45"]'
        )
    twice = Counter((c.name, c.comparator, c.tier) for c in conditions)
    (name, comparator, tier), times = twice.most_common(1)[0]
    if times > 1:
        raise InputError(
            f"{where}: {name} {comparator} stands {times} times among the {tier} conditions; "
            "leave one"
        )
    for floor in conditions:
        for ceiling in conditions:
            if (
                floor.name == ceiling.name
                and (floor.comparator, floor.tier) != (ceiling.comparator, ceiling.tier)
                and floor.comparator == AT_LEAST != ceiling.comparator
                and (floor.limit or 0) > (ceiling.limit or 0)
            ):
                raise InputError(
                    f"{where}: {floor.said} and {ceiling.said} contradict each other; no report "
                    "can meet both"
                )


def _check_fields(given: dict[str, Any], path: Path) -> None:
    for name, value in given.items():
        if name not in FIELDS:
            raise InputError(f"{path}: no field {name}; known are {', '.join(FIELDS)}")
        expected, fits = FIELDS[name]
        if not fits(value):
            raise InputError(f"{path}: expected {expected} for {name}, came {value!r}")
