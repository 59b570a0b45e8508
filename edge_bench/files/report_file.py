"""The report of a benchmark, as it lies on the disk."""

from __future__ import annotations

from pathlib import Path

from edge_bench.core.spec import Report
from edge_bench.files.store import read_json


def read_report(path: Path) -> Report:
    """Read what `ardx bench` wrote.

    Example:
        report = read_report(Path("report.json"))
        print(report.artifact.path, report.clean_mask)

    Raises:
        InputError: no such file, or none that is a whole report.
    """
    return read_json(path, Report, "a report of ardx bench")
