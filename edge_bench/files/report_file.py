"""The report of a benchmark, as it lies on the disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InputError
from edge_bench.core.spec import Report
from edge_bench.files.store import from_json, parsed_json, write_json

WHAT = "a report of ardx bench"
HASH = "content_sha256"


def read_report(path: Path) -> Report:
    """Read what `ardx bench` wrote.

    Example:
        report = read_report(Path("report.json"))
        print(report.artifact.path, report.clean_mask)

    Raises:
        InputError: no such file, none that is a whole report, or one that was edited.
    """
    data = parsed_json(path, WHAT)
    said = data.get(HASH) if isinstance(data, dict) else None
    if said is not None and said != content_sha256(data):
        raise InputError(
            f"{path}: expected {WHAT} as it was written, but its content does not have the sha256 "
            "that it names: it was edited; run ardx bench again"
        )
    return from_json(data, Report, str(path), WHAT)


def write_report(path: Path, report: Report, force: bool) -> None:
    """Write a report with the hash of its content, atomically."""
    write_json(path, sealed(report), force)


def sealed(report: Report) -> Report:
    """The report with the hash of its content."""
    return replace(report, content_sha256=content_sha256(asdict(report)))


def content_sha256(fields: dict[str, Any]) -> str:
    """sha256 of a report's fields but this one, as JSON without spaces and with sorted keys."""
    digest = hashlib.sha256()
    rest = {name: value for name, value in fields.items() if name != HASH}
    # Piece by piece: a report of a million images is not in memory once more as text.
    for piece in json.JSONEncoder(
        sort_keys=True, separators=(",", ":"), allow_nan=False
    ).iterencode(rest):
        digest.update(piece.encode())
    return digest.hexdigest()
