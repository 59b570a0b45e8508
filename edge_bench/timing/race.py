"""Time rivals by turns: what slows the machine for a while slows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median_low
from time import perf_counter_ns

ROUNDS = 21
"""Enough for an interval of the median ratio that leaves out the 5 rounds at either end."""
LEAST_CALLS = 5
SETTLING_CALLS = 3
"""Dropped at the start of a turn: the rival before left its data in the caches, and perhaps
threads that still wait busily for work."""


def race(
    calls: Mapping[str, Callable[[], object]],
    *,
    warmup_runs: int,
    turn_seconds: float,
    report_round: Callable[[int], object] = lambda _: None,
    clock: Callable[[], int] = perf_counter_ns,
) -> dict[str, tuple[int, ...]]:
    """The median latency of each rival in each of ROUNDS rounds, in nanoseconds.

    In a round each rival has one turn of at least LEAST_CALLS calls and `turn_seconds`; who
    begins changes from round to round.
    """
    names = list(calls)
    for call in calls.values():
        for _ in range(warmup_runs):
            call()
    medians: dict[str, list[int]] = {name: [] for name in names}
    for index in range(ROUNDS):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            medians[name].append(_turn(calls[name], turn_seconds, clock))
        report_round(index + 1)
    return {name: tuple(rounds) for name, rounds in medians.items()}


def _turn(call: Callable[[], object], seconds: float, clock: Callable[[], int]) -> int:
    for _ in range(SETTLING_CALLS):
        call()
    samples: list[int] = []
    begin = clock()
    while len(samples) < LEAST_CALLS or clock() - begin < seconds * 1e9:
        start = clock()
        call()
        samples.append(clock() - start)
    return median_low(samples)
