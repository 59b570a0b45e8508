"""The report of a benchmark, as it lies on the disk."""

from __future__ import annotations

from pathlib import Path

from edge_bench.core.spec import Report
from edge_bench.files.store import read_json, write_json

WHAT = "a report of ardx bench"


def read_report(path: Path) -> Report:
    """Read what `ardx bench` wrote.

    Example:
        report = read_report(Path("report.json"))
        print(report.artifact.path, report.clean_mask)

    Raises:
        InputError: no such file, none that is a whole report, or one that was edited.
    """
    return read_json(path, Report, WHAT)


def write_report(path: Path, report: Report, force: bool) -> None:
    """Write a report with the hash of its content, atomically."""
    write_json(path, report, force)
