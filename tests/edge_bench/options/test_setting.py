"""`--sweep` names settings; every combination is one point."""

from __future__ import annotations

import pytest

from edge_bench.core.errors import InputError
from edge_bench.options.setting import Setting, read_sweep


def test_every_combination_is_a_point_in_the_order_of_the_values() -> None:
    points = read_sweep(["threads=1,2 batch=1,8"])
    assert [(p.threads, p.batch_size) for p in points] == [(1, 1), (1, 8), (2, 1), (2, 8)]
    assert {p.cores for p in points} == {None}


def test_options_given_apart_are_one_sweep() -> None:
    assert read_sweep(["threads=1,2", "batch=1,8"]) == read_sweep(["threads=1,2 batch=1,8"])


def test_an_affinity_is_a_core_a_range_or_several() -> None:
    points = read_sweep(["affinity=0,0-2,3+1,0-1+4"])
    assert [p.cores for p in points] == [(0,), (0, 1, 2), (1, 3), (0, 1, 4)]
    assert str(points[2]) == "batch 1, cores 1+3"


def test_nothing_asked_is_no_point() -> None:
    assert read_sweep([]) == ()


def test_a_point_says_what_it_is() -> None:
    assert str(Setting(threads=1, batch_size=8)) == "batch 8, 1 thread"


@pytest.mark.parametrize(
    "text",
    [
        "thread=1",
        "threads",
        "threads=",
        "threads=0",
        "threads=1,,2",
        "threads=1 threads=2",
        "threads=1025",
        f"threads={'9' * 5000}",
        "batch=-1",
        "batch=65537",
        "affinity=3-1",
        "affinity=a",
        "affinity=0-",
        f"affinity={'9' * 5000}",
    ],
)
def test_what_is_no_sweep_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--sweep .*expected"):
        read_sweep([text])
