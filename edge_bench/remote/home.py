"""What a board sent, checked and written here as if the run had been here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from edge_bench.backends.registry import BACKENDS
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.parse import json_of
from edge_bench.core.spec import Report
from edge_bench.files.report_file import write_report
from edge_bench.files.store import from_json, public_artifact
from edge_bench.remote.client import Fetched
from edge_bench.remote.layout import BUNDLE, REPORT
from edge_bench.report.compare import Comparison, judge
from edge_bench.runs.every_backend import ALL, Outcome, report_path, write_all

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the reports must be of, and where they go.

    Attributes:
        path: the artefact, as reports name it.
        sha256: its identity.
        out: file of the report.
        every_backend: was it `--backend all`?
    """

    path: str
    sha256: str
    out: Path
    every_backend: bool
    force: bool


@dataclass(frozen=True, kw_only=True)
class Returned:
    """The reports of one host; `outcome` where every backend ran, `report` of the fastest then."""

    report: Report | None
    outcome: Outcome | None
    code: int


def bring_home(host: str, fetched: Fetched, expected: Expected) -> Returned | None:
    """Check the reports and write them; None where there are none.

    Raises:
        CapabilityError: no report of ours, or of another artefact.
    """
    if expected.every_backend:
        return _all_home(host, fetched, expected)
    if REPORT not in fetched.files:
        return None
    report = _report(host, fetched, REPORT, expected)
    write_report(expected.out, report, expected.force)
    return Returned(report=report, outcome=None, code=fetched.code)


def _all_home(host: str, fetched: Fetched, expected: Expected) -> Returned | None:
    """The same of `--backend all`: the race is judged here as it was there."""
    name_there, out = Path(REPORT), expected.out
    all_there = report_path(name_there, ALL).name
    if all_there not in fetched.files:
        return None
    comparison = _read(host, fetched, all_there, Comparison)
    _refuse_what_never_ran(host, comparison)
    reports = {
        c.backend: _report(host, fetched, report_path(name_there, c.backend).name, expected)
        for c in comparison.contenders
        if c.report
    }
    contenders = tuple(
        replace(
            c,
            report=c.report and report_path(out, c.backend).name,
            error=c.error and c.error.replace(BUNDLE, expected.path),
        )
        for c in comparison.contenders
    )
    rounds = {c.backend: c.round_ns for c in contenders if c.report and c.round_ns}
    try:
        standings = judge({name: reports[name] for name in rounds}, rounds) if rounds else []
    except InputError as error:
        raise CapabilityError(f"{host}: {all_there}: is not used: {error}") from None
    outcome = Outcome(
        comparison=replace(comparison, contenders=contenders),
        standings=standings,
        reports=reports,
        exit_code=fetched.code,
    )
    write_all(outcome, out, expected.force)
    fastest = reports[standings[0].backend] if standings else None
    return Returned(report=fastest, outcome=outcome, code=fetched.code)


def _refuse_what_never_ran(host: str, comparison: Comparison) -> None:
    """Its names become those of files here, and its rounds are compared one by one.

    Raises:
        CapabilityError: says what no run of --backend all gives.
    """
    names = [contender.backend for contender in comparison.contenders]
    odd = sorted(set(names) - BACKENDS.keys()) or [n for n in names if names.count(n) > 1]
    rounds = {len(c.round_ns) for c in comparison.contenders if c.report and c.round_ns}
    if odd or len(rounds) > 1:
        told = " and ".join(map(str, sorted(rounds)))
        came = f"a backend {odd[0]!r}" if odd else f"races of {told} rounds"
        raise CapabilityError(
            f"{host}: expected a race of {', '.join(BACKENDS)} over the same rounds, came {came}; "
            "it is not used, so see that the same ardx is there"
        )


def _report(host: str, fetched: Fetched, name: str, expected: Expected) -> Report:
    report = _read(host, fetched, name, Report)
    found = report.artifact.sha256
    if found != expected.sha256:
        raise CapabilityError(
            f"{host}: {name} is of the artefact {found[:16]}, and {expected.sha256[:16]} was "
            "sent; it is not used, so see who else benchmarks there"
        )
    return replace(report, artifact=replace(report.artifact, path=public_artifact(expected.path)))


def _read(host: str, fetched: Fetched, name: str, kind: type[T]) -> T:
    where = f"{host}: {name}"
    try:
        return from_json(json_of(fetched.files[name]), kind, where, "a report of ardx bench")
    except (KeyError, ValueError, InputError) as error:
        raise CapabilityError(f"{where}: no whole report came back ({error})") from None
