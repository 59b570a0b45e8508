"""The command `report`: what bench measured, for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edge_bench.core.errors import InputError
from edge_bench.terminal.flags import command

STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """The options of `report`."""

    reports: Annotated[
        list[Path], typer.Argument(help="Reports written by bench; several are put side by side.")
    ]
    sets: Annotated[
        Path | None,
        typer.Option(help="Sets that bench replayed, for a gallery of samples that flipped."),
    ] = None
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained page here; - for stdout.")
    ] = None
    md: Annotated[Path | None, typer.Option(help="Write it in Markdown here; - for stdout.")] = None
    csv: Annotated[
        Path | None, typer.Option(help="Write every figure as a row here; - for stdout.")
    ] = None


def run_report(flags: ReportFlags) -> None:
    """Show reports of bench as a page, Markdown or a table of figures.

    Example: ardx report report.json --sets sets --html report.html
    """
    asked = {"html": flags.html, "md": flags.md, "csv": flags.csv}
    outs = {kind: out for kind, out in asked.items() if out is not None}
    _check(flags, list(outs.values()))

    from edge_bench.files.report_file import read_report
    from edge_bench.files.sets import open_sets
    from edge_bench.files.store import atomic_file
    from edge_bench.page import render

    reports = [read_report(path) for path in flags.reports]
    sets = open_sets(flags.sets) if flags.sets else []
    page = render.page_of(reports, sets) if {"html", "md"} & outs.keys() else None
    for kind, out in outs.items():
        if kind == "csv" or page is None:
            text = render.as_csv(reports)
        else:
            text = render.as_html(page) if kind == "html" else render.as_markdown(page)
        if out == STDOUT:
            print(text, end="")
            continue
        with atomic_file(out, force=True) as partial:
            partial.write_text(text, encoding="utf-8")
        print(f"{kind}: {out}")


def _check(flags: ReportFlags, outs: list[Path]) -> None:
    """Refuse what cannot be meant, before anything is read.

    Raises:
        InputError: nothing to write, one file asked for twice or also read, no file's name, or
            sets of several.
    """
    from edge_bench.files.store import refuse_existing_file

    if not outs:
        raise InputError("expected --html, --md or --csv with a file, or - for stdout; give one")
    if len(set(outs)) < len(outs):
        raise InputError("--html, --md and --csv: expected a file each, came one twice")
    if flags.sets and len(flags.reports) > 1:
        raise InputError(
            f"--sets {flags.sets}: expected one report for a gallery, came {len(flags.reports)}"
        )
    read = {path.resolve() for path in flags.reports}
    for out in outs:
        if out == STDOUT:
            continue
        refuse_existing_file(out, force=True)
        if out.resolve() in read:
            raise InputError(f"{out}: is a report that is read; choose another file to write")


report = command("report", ReportFlags, run_report)
