"""`bench --backend all` for people: files, warnings, the table and the sentence below it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer

from edge_bench.commands.benching.asked import Asked, warn_of_saturation
from edge_bench.core.spec import Report
from edge_bench.files.store import public_artifact, refuse_existing_file
from edge_bench.files.unpack import Unpacked
from edge_bench.report.compare import HEADER, conclusion, rows
from edge_bench.report.doubts import doubts_in
from edge_bench.report.summary import summarise
from edge_bench.runs.every_backend import (
    ALL,
    Outcome,
    backends_here,
    report_path,
    run_all,
    write_all,
)
from edge_bench.terminal.console import print_json, print_table, progress, say, say_aside, warn


def bench_all(asked: Asked) -> tuple[Report, dict[str, Any], int]:
    """Run, write and tell; give the report of the fastest, the summary and the exit code.

    `out` gets the report of the fastest, so that a gate finds it whichever that is; the files
    beside it hold the report of each backend and, named `all`, the comparison.

    Raises:
        typer.Exit: no backend came through.
    """
    here = backends_here()[0]
    for name in (*here, ALL):
        refuse_existing_file(report_path(asked.out, name), asked.force)
    parts = asked.parts
    warn_of_saturation(parts.model, here)
    ran = run_all(parts.model, parts.sets, asked.options, asked.square, asked.out, progress)
    outcome = _named(ran, parts, asked.path)
    write_all(outcome, asked.out, asked.force)
    _warn(outcome.reports)
    for contender in outcome.comparison.contenders:
        if contender.error:
            say_aside(f"error: {contender.backend}: {contender.error}")
    return tell_all(outcome, asked.out, asked.json_summary)


def tell_all(outcome: Outcome, out: Path, json_summary: bool) -> tuple[Report, dict[str, Any], int]:
    """Show the table, where people read, and give what `bench_all` gives.

    Raises:
        typer.Exit: no backend came through.
    """
    summary = summarise_all(outcome, out)
    if not outcome.standings:
        if json_summary:
            print_json(summary)
        raise typer.Exit(outcome.exit_code)
    if not json_summary:
        _tell(outcome, out)
    return outcome.reports[outcome.standings[0].backend], summary, outcome.exit_code


def _named(outcome: Outcome, parts: Unpacked, path: str) -> Outcome:
    """The outcome with `path` for the model, which may lie in a folder that is gone tomorrow."""
    reports = {
        name: replace(report, artifact=replace(report.artifact, path=public_artifact(path)))
        for name, report in outcome.reports.items()
    }
    contenders = tuple(
        replace(c, error=c.error and c.error.replace(str(parts.model), path))
        for c in outcome.comparison.contenders
    )
    comparison = replace(outcome.comparison, contenders=contenders)
    return replace(outcome, comparison=comparison, reports=reports)


def _warn(reports: dict[str, Report]) -> None:
    """Doubts, once where all backends share them."""
    doubts = {name: doubts_in(report) for name, report in reports.items()}
    sentences = dict.fromkeys(sentence for found in doubts.values() for sentence in found)
    for sentence in sentences:
        names = [name for name, found in doubts.items() if sentence in found]
        warn(sentence if len(names) == len(doubts) else f"{', '.join(names)}: {sentence}")


def _tell(outcome: Outcome, out: Path) -> None:
    size = outcome.comparison.batch_size
    print_table(f"backends (p50 of batch {size}, by turns)", HEADER, rows(outcome.standings))
    say(conclusion(outcome.standings))
    if outcome.comparison.absent:
        say(f"not here: {', '.join(outcome.comparison.absent)} (ardx doctor says what they need)")
    files = [c.report for c in outcome.comparison.contenders if c.report]
    say(f"reports: {', '.join([*files, report_path(out, ALL).name])} in {out.parent}")
    say(f"{outcome.standings[0].backend}, in full:")
    say("")


def summarise_all(outcome: Outcome, out: Path) -> dict[str, Any]:
    """The comparison as plain JSON values, with the summary of each report."""
    standings = {standing.backend: asdict(standing) for standing in outcome.standings}
    backends: dict[str, Any] = {}
    reports = outcome.reports
    for contender in outcome.comparison.contenders:
        name = contender.backend
        backends[name] = {"error": contender.error} | standings.get(name, {})
        if name in reports:
            backends[name] |= summarise(reports[name]) | {"report": str(report_path(out, name))}
    first = outcome.standings[0].backend if outcome.standings else None
    return {
        "fastest": first,
        "conclusion": conclusion(outcome.standings) if outcome.standings else None,
        "report": str(out) if first else None,
        "comparison": str(report_path(out, ALL)),
        "backends": backends,
        "absent": outcome.comparison.absent,
    }
