"""Every backend that is here on the same artefact and sets, and a race between them.

Each backend is benchmarked in a process of its own: its peak memory is its own, and a runtime that
crashes takes no other with it. Then all that came through are opened here and race by turns.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from edge_bench.backends import BACKENDS, open_backend
from edge_bench.backends.base import Backend
from edge_bench.core.errors import (
    EXIT_ENVIRONMENT,
    ArdxError,
    CapabilityError,
    first_line,
    os_sentence,
)
from edge_bench.core.progress import Monitor
from edge_bench.core.spec import Report
from edge_bench.core.version import __version__
from edge_bench.files.journal import Journal
from edge_bench.files.locks import LockedError
from edge_bench.files.onnx_file import read_onnx
from edge_bench.files.report_file import write_report
from edge_bench.files.sets import AdversarialSet, open_sets
from edge_bench.files.store import write_json
from edge_bench.options.bench import BenchOptions
from edge_bench.options.square import SquareOptions
from edge_bench.report.compare import (
    Comparison,
    Contender,
    Standing,
    judge,
)
from edge_bench.robustness.inference import batch_to_time
from edge_bench.runs.one_run import run
from edge_bench.timing.own_process import own_process
from edge_bench.timing.race import ROUNDS, race

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of all backends gave.

    Attributes:
        comparison: of all that are here.
        standings: of those that came through, the fastest candidate first.
        reports: by backend.
        exit_code: 0, or that of the first backend that failed.
    """

    comparison: Comparison
    standings: list[Standing]
    reports: dict[str, Report]
    exit_code: int


def backends_here() -> tuple[list[str], dict[str, str]]:
    """The backends that can run here, and for the others the sentence that says why not.

    Raises:
        CapabilityError: there is none.
    """
    here: list[str] = []
    absent: dict[str, str] = {}
    for name, runtime in BACKENDS.items():
        if name == "trt-rtx" and "trt" in here:
            # They can build in processes of their own, but not race in this one.
            absent[name] = "trt is here, and one process speaks to one of the two; run it alone"
            continue
        try:
            runtime.here(name)
        except CapabilityError as error:
            absent[name] = str(error)
        else:
            here.append(name)
    if not here:
        raise CapabilityError(
            "--backend all: no runtime is here; install one: "
            f"{'; '.join(dict.fromkeys(runtime.mend for runtime in BACKENDS.values()))}"
        )
    return here, absent


def report_path(out: Path, backend: str) -> Path:
    """Where the report of one backend lies (and, of ALL, the comparison) beside `out`."""
    return out.with_name(f"{out.stem}-{backend}{out.suffix}")


def run_all(
    model: Path,
    sets: Path | None,
    options: BenchOptions,
    square: SquareOptions | None,
    out: Path,
    monitor: Monitor,
) -> Outcome:
    """Benchmark `model` on every backend that is here, and compare; files are the caller's.

    `sets` is the path, which each process opens for itself; `monitor` is called in each.

    Raises:
        InputError: no model or no sets that any backend could read.
        CapabilityError: no backend is here.
        LockedError: another process benchmarks one of them for the same report.
    """
    read_onnx(model)
    opened = open_sets(sets) if sets else []
    here, absent = backends_here()
    reports: dict[str, Report] = {}
    errors: dict[str, Exception] = {}
    for name in here:
        try:
            reports[name] = _in_own_process(
                model, sets, options_for(name, options), square, report_path(out, name), monitor
            )
        except LockedError:
            raise  # It is measured at this moment: a comparison without it would be half of one.
        except Exception as error:
            # Of one backend: a bug in its runtime must not take the figures of the others.
            errors[name] = error
    rounds = _race(model, opened, options, reports, errors, monitor)
    contenders = tuple(
        Contender(
            backend=name,
            report=report_path(out, name).name if name in reports else None,
            error=sentence_of(errors[name]) if name in errors else None,
            round_ns=rounds.get(name, ()),
        )
        for name in here
    )
    comparison = Comparison(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ardx_version=__version__,
        artifact_sha256=next(iter(reports.values())).artifact.sha256 if reports else "",
        batch_size=next(iter(reports.values())).latency.batch_size if reports else 1,
        contenders=contenders,
        absent=absent,
    )
    raced = {name: report for name, report in reports.items() if name in rounds}
    codes = [getattr(error, "exit_code", EXIT_ENVIRONMENT) for error in errors.values()]
    return Outcome(
        comparison=comparison,
        standings=judge(raced, rounds) if raced else [],
        reports=reports,
        exit_code=codes[0] if codes else 0,
    )


def sentence_of(error: Exception) -> str:
    """What ended a backend, in one sentence."""
    if isinstance(error, BrokenProcessPool):
        return (
            "its process died, as where memory runs out or a library uses instructions that this "
            "CPU lacks; run it alone to see, or leave it out"
        )
    if isinstance(error, ArdxError):
        return str(error)
    if isinstance(error, OSError):
        return os_sentence(error)
    return f"{type(error).__name__}: {first_line(error)}"


def options_for(backend: str, options: BenchOptions) -> BenchOptions:
    """The options that one backend takes of those that all were given."""
    threads = options.threads if BACKENDS[backend].takes_threads else None
    return replace(options, backend=backend, threads=threads)


def _in_own_process(
    model: Path,
    sets: Path | None,
    options: BenchOptions,
    square: SquareOptions | None,
    report: Path,
    monitor: Monitor,
) -> Report:
    with own_process() as pool:
        return pool.submit(_bench, model, sets, options, square, report, monitor).result()


def _bench(
    model: Path,
    sets: Path | None,
    options: BenchOptions,
    square: SquareOptions | None,
    report: Path,
    monitor: Monitor,
) -> Report:
    """The report that the caller will write to `report`, which the journal lies beside."""
    opened = open_sets(sets) if sets else []
    with monitor(f"bench {options.backend}") as report_progress, Journal(report) as journal:
        return run(model, opened, options, report_progress, square, journal=journal)


def _race(
    model: Path,
    sets: list[AdversarialSet],
    options: BenchOptions,
    reports: dict[str, Report],
    errors: dict[str, Exception],
    monitor: Monitor,
) -> dict[str, tuple[int, ...]]:
    """The rounds of the backends in `reports`; who cannot start joins `errors`."""
    calls: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        for name in reports:
            try:
                calls[name] = _call(model, sets, options_for(name, options), stack)
            except ArdxError as error:
                errors[name] = error
        if not calls:
            return {}
        with monitor("race") as report_progress:
            return race(
                calls,
                warmup_runs=options.warmup_runs,
                turn_seconds=options.min_seconds / ROUNDS,
                report_round=lambda done: report_progress(done, ROUNDS, ""),
            )


def _call(
    model: Path, sets: list[AdversarialSet], options: BenchOptions, stack: ExitStack
) -> Callable[[], object]:
    engine = replace(options.engine, max_batch=options.batch_size)
    opened = open_backend(options.backend, model, options.threads, engine, output=options.output)
    backend: Backend = stack.enter_context(opened)
    return partial(backend.infer, batch_to_time(backend, sets, 1, options))


def write_all(outcome: Outcome, out: Path, force: bool) -> None:
    """Write what `bench_all` says of its files."""
    for name, report in outcome.reports.items():
        with Journal(report_path(out, name)) as journal:
            write_report(report_path(out, name), report, force)
            journal.close_for(report_path(out, name))
    write_json(report_path(out, ALL), outcome.comparison, force)
    if outcome.standings:
        write_report(out, outcome.reports[outcome.standings[0].backend], force)
