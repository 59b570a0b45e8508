"""Where the artefact came from, on what it was measured, and what to doubt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edge_bench.core.spec import ModelCard, Report
from edge_bench.page.parts import Row, Section, Table, shown
from edge_bench.page.speed import shown_long
from edge_bench.page.verdict import named
from edge_bench.report.doubts import doubts_in
from edge_bench.statistics.generations import generations
from edge_bench.timing.stability import stabilities

LONGEST_SETTING = 200
TAUGHT = {
    "start_sha256": "first weights",
    "clean_teacher_sha256": "clean teacher",
    "teacher_sha256": "teacher",
}
"""Files that a recipe names by their hash."""


def lineage_section(report: Report) -> Section:
    """From the file before to the file that was measured and the runtime that ran it."""
    artifact, card = report.artifact, report.artifact.card
    rows: list[Row] = []
    if card is not None:
        rows += _steps(report, card)
    what = f"{card.precision}, {shown(card.architecture)}" if card else "no card of ardx in it"
    rows.append(("measured file", named(report), what, artifact.sha256))
    rows.append(("runtime", report.backend.name, shown(report.backend.version), "-"))
    if report.fingerprint:
        other = report.fingerprint.backend
        same = f"{report.fingerprint.same_class} of {report.fingerprint.samples} answers alike"
        rows.append(("validated with", other.name, f"{shown(other.version)}: {same}", "-"))
    tables = [
        Table(caption="Files", header=("step", "name", "what", "sha256"), rows=tuple(rows)),
        Table(caption="Versions and machine", header=("what", "value"), rows=_machine(report)),
    ]
    if card is not None and (settings := tuple(_flat(card.recipe))):
        tables.append(Table(caption="Settings", header=("setting", "value"), rows=settings))
    if report.sets:
        tables.append(_sets(report))
    return Section(key="lineage", title="Lineage", tables=tuple(tables))


def doubts_section(report: Report) -> Section:
    """What to distrust, with remedies."""
    points = [shown_long(text) for text in doubts_in(report)]
    unstable = [name for name, found in stabilities(report).items() if not found.stable]
    told = "Nothing was found to distrust." if not points else f"{len(points)} to look into."
    if not unstable and stabilities(report):
        told += f" Timing was stable ({', '.join(stabilities(report))})."
    return Section(key="doubts", title="Doubts", paragraphs=(told,), points=tuple(points))


def _steps(report: Report, card: ModelCard) -> Iterator[Row]:
    """The files before, by the hashes that the card holds and the names that the sets tell."""
    names = {s.manifest.source_sha256: s.manifest.source_name for s in report.sets}
    for key, what in TAUGHT.items():
        if isinstance(sha256 := card.recipe.get(key), str):
            yield (what, shown(names.get(sha256, "-")), "of its training", shown(sha256))
    if card.parent_sha256 is not None:
        name = shown(names.get(card.parent_sha256, "-"))
        yield ("made from", name, f"weights, trained on {shown(card.dataset)}", card.parent_sha256)


def _machine(report: Report) -> tuple[Row, ...]:
    device, backend = report.device, report.backend
    card = report.artifact.card
    told = {
        "measured": report.created,
        "ardx": report.ardx_version,
        "ardx that exported it": card.ardx_version if card else None,
        "board": device.board,
        "chip": device.soc,
        "processor": device.cpu,
        "architecture": device.architecture,
        "cores": device.cores,
        "operating system": device.os,
        "kernel": device.kernel,
        "Python": device.python,
        "governor": device.governor,
        "power mode": device.power_mode,
        "threads": backend.threads,
        "providers": ", ".join(backend.providers),
        "clean images": report.images_sha256,
        "content of the report": report.content_sha256,
    }
    return tuple(
        (name, shown_long(str(value))) for name, value in told.items() if value not in (None, "")
    )


def _told(age: int | None) -> str:
    """Generations, where they say more than the relation."""
    return f", {age} generations back" if age is not None and age > 1 else ""


def _sets(report: Report) -> Table:
    ages = generations(report)
    rows = tuple(
        (
            shown(s.name),
            shown(s.manifest.source_name),
            s.manifest.source_sha256,
            f"{s.relation}{_told(ages[s.name])}",
            shown_long(", ".join(f"{k} {v}" for k, v in sorted(s.manifest.versions.items()))),
        )
        for s in report.sets
    )
    header = ("set", "crafted on", "sha256 of that", "seen from the artefact", "versions")
    return Table(caption="Sets", header=header, rows=rows)


def _flat(value: dict[str, Any], before: str = "") -> Iterator[Row]:
    """Settings by dotted name."""
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{before}{name}.")
            continue
        text = inner if isinstance(inner, str) else json.dumps(inner)
        cut = text if len(text) <= LONGEST_SETTING else text[: LONGEST_SETTING - 1] + "…"
        yield (shown(before + name), shown_long(cut))
