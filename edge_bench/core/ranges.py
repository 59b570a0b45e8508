"""Ranges of the numbers that a file may hold: one that no run writes would pass a gate."""

from __future__ import annotations

from collections.abc import Mapping

from edge_bench.core.errors import InputError


def at_least(least: int, what: str, numbers: Mapping[str, float | None]) -> None:
    """Refuse a number below `least`; None is one that was not told.

    Raises:
        InputError: names the field of `what`.
    """
    for name, number in numbers.items():
        if number is not None and not number >= least:
            raise InputError(f"{what}: expected {name} of {least} or more, came {number}")


def fractions(what: str, numbers: Mapping[str, float | None]) -> None:
    """Refuse a number outside of 0 to 1.

    Raises:
        InputError: names the field of `what`.
    """
    for name, number in numbers.items():
        if number is not None and not 0 <= number <= 1:
            raise InputError(f"{what}: expected {name} from 0 to 1, came {number}")
