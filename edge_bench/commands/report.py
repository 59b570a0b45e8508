"""The command `report`: what bench measured, for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edge_bench.core.errors import InputError
from edge_bench.terminal.console import put, say, say_aside
from edge_bench.terminal.flags import command
from edge_bench.terminal.outputs import STDOUT, refuse_outputs, write_text


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
    outs = {"html": flags.html, "md": flags.md, "csv": flags.csv}
    _check(flags, outs)

    from edge_bench.files.report_file import read_report
    from edge_bench.files.sets import open_sets
    from edge_bench.page import render

    reports = [read_report(path) for path in flags.reports]
    sets = open_sets(flags.sets) if flags.sets else []
    page = render.page_of(reports, sets) if flags.html or flags.md else None
    texts: list[tuple[str, Path, str]] = []
    for kind, out in outs.items():
        if out is None:
            continue
        if kind == "csv" or page is None:
            text = render.as_csv(reports)
        else:
            text = render.as_html(page) if kind == "html" else render.as_markdown(page)
        texts.append((kind, out, text))
    printed = [text for _, out, text in texts if out == STDOUT]
    for kind, out, text in texts:
        if out != STDOUT:
            write_text(out, text)
            (say_aside if printed else say)(f"{kind}: {out}")
    for text in printed:
        put(text, end="")


def _check(flags: ReportFlags, outs: dict[str, Path | None]) -> None:
    """Refuse what cannot be meant, before anything is read.

    Raises:
        InputError: nothing to write, one file asked for twice or also read, no file's name, or
            sets of several.
    """
    from edge_bench.files.sets import set_files

    if not any(outs.values()):
        raise InputError("expected --html, --md or --csv with a file, or - for stdout; give one")
    if flags.sets and len(flags.reports) > 1:
        raise InputError(
            f"--sets {flags.sets}: expected one report for a gallery, came {len(flags.reports)}"
        )
    read = [*flags.reports, *(set_files(flags.sets) if flags.sets else [])]
    named = {f"--{kind}": out for kind, out in outs.items()}
    refuse_outputs(named, read, to_stdout=named)


report = command("report", ReportFlags, run_report)
