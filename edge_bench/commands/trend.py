"""The command `trend`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edge_bench.commands.compare import MarginFlags
from edge_bench.terminal.console import print_json, print_table, put, say
from edge_bench.terminal.flags import Json, command
from edge_bench.terminal.outputs import STDOUT, refuse_outputs, write_text


@dataclass(frozen=True, kw_only=True)
class TrendFlags:
    """The options of `trend`."""

    folder: Annotated[
        Path, typer.Argument(help="Folder of reports: FILE.json, or COMMIT/FILE.json.")
    ]
    html: Annotated[Path | None, typer.Option(help="Write picture and tables as a page here.")] = (
        None
    )
    svg: Annotated[Path | None, typer.Option(help="Write the picture alone here.")] = None
    md: Annotated[
        Path | None, typer.Option(help="Write the tables in Markdown here; - for stdout.")
    ] = None
    counts: MarginFlags
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what --html, --svg and --md name.")
    ] = False
    json_summary: Json = False


def run_trend(flags: TrendFlags) -> None:
    """Robust accuracy and latency over the reports of past commits, with real changes marked.

    Example: ardx trend history/

    Example: ardx trend history/ --html trend.html
    """
    from edge_bench.history.series import history_files, read_history, series_of
    from edge_bench.history.told import as_json, as_markdown, header, rows, sentence

    refuse_outputs(
        {"--html": flags.html, "--svg": flags.svg, "--md": flags.md},
        history_files(flags.folder),
        force=flags.force,
        json_summary=flags.json_summary,
    )
    history = series_of(
        read_history(flags.folder), flags.counts.margin, flags.counts.latency_margin
    )
    if flags.html is not None:
        from edge_bench.history.page import as_html

        write_text(flags.html, as_html(history))
    if flags.svg is not None:
        from edge_bench.history.picture import as_svg

        write_text(flags.svg, as_svg(history))
    if flags.md is not None and flags.md != STDOUT:
        write_text(flags.md, as_markdown(history))
    if flags.json_summary:
        print_json(as_json(history))
    elif flags.md == STDOUT:
        put(as_markdown(history), end="")
    else:
        for series in history:
            print_table(series.name, header(series), rows(series))
            say(sentence(series))


trend = command("trend", TrendFlags, run_trend)
