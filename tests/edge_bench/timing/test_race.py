"""A race by turns keeps the ratio of two rivals where the machine slows down under both."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_bench.timing.race import LEAST_CALLS, ROUNDS, SETTLING_CALLS, race

MS = 1_000_000


class Machine:
    """A clock that calls move, by their cost times how slow the machine is just now."""

    def __init__(self, slowness: Callable[[int], int] = lambda _: 1) -> None:
        self.now_ns = 7
        self.called: list[str] = []
        self._slowness = slowness

    def rival(self, name: str, cost_ns: int) -> Callable[[], None]:
        def call() -> None:
            self.called.append(name)
            self.now_ns += cost_ns * self._slowness(self.now_ns)

        return call

    def clock(self) -> int:
        return self.now_ns


def test_each_round_gives_one_median_of_each_rival() -> None:
    machine = Machine()
    calls = {"a": machine.rival("a", MS), "b": machine.rival("b", 2 * MS)}
    rounds = race(calls, warmup_runs=0, turn_seconds=0, clock=machine.clock)
    assert rounds == {"a": (MS,) * ROUNDS, "b": (2 * MS,) * ROUNDS}


def test_the_rivals_take_turns_and_who_begins_changes() -> None:
    machine = Machine()
    calls = {"a": machine.rival("a", 1), "b": machine.rival("b", 1)}
    race(calls, warmup_runs=2, turn_seconds=0, clock=machine.clock)
    turn = SETTLING_CALLS + LEAST_CALLS
    expected = ["a"] * 2 + ["b"] * 2
    for index in range(ROUNDS):
        order = ["a", "b"] if index % 2 == 0 else ["b", "a"]
        expected += [name for name in order for _ in range(turn)]
    assert machine.called == expected


def test_a_turn_lasts_as_long_as_was_asked_for() -> None:
    machine = Machine()
    race({"a": machine.rival("a", MS)}, warmup_runs=0, turn_seconds=0.05, clock=machine.clock)
    assert len(machine.called) == ROUNDS * (SETTLING_CALLS + 50)


def test_a_machine_that_slows_down_half_way_slows_both() -> None:
    total = 2 * ROUNDS * (SETTLING_CALLS + LEAST_CALLS) * 3 * MS // 2
    machine = Machine(lambda now: 1 if now < total // 2 else 5)
    calls = {"a": machine.rival("a", MS), "b": machine.rival("b", 2 * MS)}
    rounds = race(calls, warmup_runs=0, turn_seconds=0, clock=machine.clock)
    assert {*rounds["a"]} == {MS, 5 * MS}
    ratios = [b / a for a, b in zip(rounds["a"], rounds["b"], strict=True)]
    assert sum(ratio == pytest.approx(2) for ratio in ratios) >= ROUNDS - 1


def test_each_round_is_told_when_it_is_over() -> None:
    machine, told = Machine(), list[int]()
    calls = {"a": machine.rival("a", MS)}
    race(calls, warmup_runs=0, turn_seconds=0, report_round=told.append, clock=machine.clock)
    assert told == list(range(1, ROUNDS + 1))


def test_calls_that_settle_are_not_timed() -> None:
    machine = Machine()
    few = LEAST_CALLS // 2  # Of the calls that are timed: too few to move their median.
    timed = [9 * MS] * few + [MS] * (LEAST_CALLS - few)
    costs = iter(([9 * MS] * SETTLING_CALLS + timed) * ROUNDS)

    def call() -> None:
        machine.now_ns += next(costs)

    rounds = race({"a": call}, warmup_runs=0, turn_seconds=0, clock=machine.clock)
    assert rounds == {"a": (MS,) * ROUNDS}
