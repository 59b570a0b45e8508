"""A clock that jumps, goes back or stands still gives a sentence, never a wrong figure."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import pytest

import edge_bench
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement, Soak
from edge_bench.files.seals.content import sealed
from edge_bench.files.sets import AdversarialSet
from edge_bench.files.store import read_json, write_json
from edge_bench.options.bench import BenchOptions
from edge_bench.report.compare import Contender
from edge_bench.report.summary import performance_rows, summarise
from edge_bench.runs import one_run as bench
from edge_bench.timing import clocks
from edge_bench.timing.clocks import check_clock
from edge_bench.timing.measure import measure
from edge_bench.timing.soak import drift

MONOTONIC = {
    "monotonic",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "sleep",
    "thread_time_ns",
}
WALL_CLOCK = {"now", "utcnow", "today", "st_mtime", "st_ctime", "st_atime", "getmtime"}


def measurement(*latency_ns: int, first_ns: int = 1) -> Measurement:
    return Measurement(batch_size=1, warmup_runs=0, first_ns=first_ns, latency_ns=latency_ns)


# --- the wall clock --------------------------------------------------------------------------


def test_only_the_date_of_a_report_is_read_from_the_wall_clock() -> None:
    """Whoever needs a duration or an order takes a clock that cannot be set."""
    package = Path(edge_bench.__file__).parent
    found: set[tuple[str, str]] = set()
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                found |= {(name, alias.name) for alias in node.names}
            elif isinstance(node, ast.Attribute):
                of_time = isinstance(node.value, ast.Name) and node.value.id == "time"
                if of_time or node.attr.removesuffix("_ns") in WALL_CLOCK:
                    found.add((name, node.attr))
    others = {(file, what) for file, what in found if what not in MONOTONIC}
    dates = {("runs/one_run.py", "now"), ("runs/every_backend.py", "now")}
    assert others == dates | {("policy/evaluate.py", "now")}  # How old a date is.
    assert ("timing/measure.py", "perf_counter_ns") in found, "the search finds nothing"


def test_a_wall_clock_that_jumps_back_changes_the_date_alone(
    make_model: Callable[..., Path],
    opened: AdversarialSet,
    quick: Callable[..., BenchOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jumps = count(0, -400)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(1970, 1, 2, tzinfo=timezone.utc) + timedelta(days=next(jumps))

    monkeypatch.setattr("time.time", lambda: float(next(jumps)))
    expected = bench.run(make_model(), [opened], quick())
    monkeypatch.setattr(bench, "datetime", Jumping)
    report = bench.run(make_model(), [opened], quick())
    assert report.created < "1971"
    assert (report.clean_mask, report.sets) == (expected.clean_mask, expected.sets)
    for timed in (report.latency, report.throughput):
        assert min(timed.latency_ns) > 0
        assert max(timed.latency_ns) < 60 * 10**9


# --- the clock of the timings ----------------------------------------------------------------


def test_this_machine_s_clock_is_fit() -> None:
    check_clock()


def test_a_clock_of_long_steps_is_fit_for_long_timings() -> None:
    check_clock(iter(count_in_steps(10_000_000, 20_000)).__next__)


def count_in_steps(step_ns: int, reads: int) -> Iterator[int]:
    return (read // reads * step_ns for read in count())


@pytest.mark.parametrize(
    ("readings", "what"),
    [
        (repeat(5), "stands still"),
        (chain([5, 6, 7, 3], count(8)), "went back by 4 ns"),
        (chain(range(500), [100], count(600)), "went back by 399 ns"),
    ],
)
def test_a_benchmark_does_not_begin_by_a_broken_clock(
    readings: Iterator[int], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "MOST_READS", 5000)
    with pytest.raises(CapabilityError, match=f"^the monotonic clock of this machine {what}, so"):
        check_clock(readings.__next__)


def test_a_broken_clock_is_said_before_the_artefact_is_opened(
    tmp_path: Path, quick: Callable[..., BenchOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_clock, "__defaults__", (repeat(5).__next__,))
    monkeypatch.setattr(clocks, "MOST_READS", 5000)
    with pytest.raises(CapabilityError, match="stands still"):
        bench.run(tmp_path / "none.onnx", [], quick())


@pytest.mark.parametrize(
    ("readings", "what"),
    [
        # It is read before and after each call, and to see whether the time is up.
        (chain(range(0, 60, 5), count(30, 5)), "the clock went back"),
        (repeat(7), "the clock stood still"),
    ],
)
def test_a_clock_that_breaks_while_it_times_gives_no_figure(
    readings: Iterator[int], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        measure(
            lambda: None,
            batch_size=1,
            warmup_runs=0,
            min_runs=30,
            min_seconds=0,
            clock=readings.__next__,
        )


def test_one_step_back_among_many_timings_is_refused() -> None:
    with pytest.raises(InputError, match="came -1 ns"):
        measurement(5, 5, -1, 5)
    with pytest.raises(InputError, match="came -3 ns"):
        measurement(5, first_ns=-3)


def test_a_clock_of_long_steps_gives_figures(make_report: Callable[..., Report]) -> None:
    timed = measurement(*[0] * 30, 10_000_000, first_ns=0)
    soaked = Soak(minutes=1, latency_ns=encode_series([*[0] * 300, 10_000_000]))
    report = replace(make_report(), latency=timed, throughput=timed, soak=soaked)
    figures = summarise(report)
    assert figures["images_per_second"] == 3100
    assert figures["latency_ms"]["p50"] == 0
    assert performance_rows(report)
    assert drift(soaked).samples == 301


@pytest.mark.parametrize("values", [[0, 0, 0], [5, -1, 5]])
def test_a_soak_by_a_broken_clock_is_refused(values: list[int]) -> None:
    with pytest.raises(InputError, match="the clock went back or stood still"):
        Soak(minutes=1, latency_ns=encode_series(values))


@pytest.mark.parametrize("round_ns", [(5, 0, 5), (5, -2)])
def test_a_race_by_a_broken_clock_is_refused(round_ns: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"race of ort: .*went back or stood still"):
        Contender(backend="ort", report=None, round_ns=round_ns)


@pytest.mark.parametrize(
    ("latency_ns", "what"), [([0, 0], "stood still"), ([5, -5], "came -5 ns"), ([], "0 timings")]
)
def test_a_report_that_holds_such_timings_is_refused_with_its_name(
    make_report: Callable[..., Report], tmp_path: Path, latency_ns: list[int], what: str
) -> None:
    path = tmp_path / "report.json"
    write_json(path, make_report("1", {"pgd": "1"}), False)
    data = json.loads(path.read_text())
    data["latency"]["latency_ns"] = latency_ns
    path.write_text(json.dumps(sealed(Report, data)))
    with pytest.raises(InputError, match=rf"report\.json: latency: measurement: .*{what}"):
        read_json(path, Report, "a report")
