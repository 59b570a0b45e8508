"""The command `compare`: two reports, and whether the second is another model to its users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_bench.core.errors import InputError
from edge_bench.options.margins import LATENCY_MARGIN, MARGIN
from edge_bench.terminal.console import print_json, print_table, put, say
from edge_bench.terminal.flags import Json, command
from edge_bench.terminal.outputs import STDOUT, refuse_outputs, write_text

if TYPE_CHECKING:
    from edge_bench.compare.reports import Change


@dataclass(frozen=True, kw_only=True)
class MarginFlags:
    """What counts as no change, for `compare` and `trend`."""

    margin: Annotated[
        float, typer.Option(help="Change of accuracy that counts as none, a fraction.")
    ] = MARGIN
    latency_margin: Annotated[
        float, typer.Option(help="Relative change of latency that counts as none, a fraction.")
    ] = LATENCY_MARGIN

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("latency-margin", self.latency_margin)):
            if not 0 < value < 1:
                raise InputError(f"--{name} {value:g}: expected a fraction between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class CompareFlags:
    """The options of `compare`."""

    base: Annotated[Path, typer.Argument(help="Report written by bench, before.")]
    new: Annotated[Path, typer.Argument(help="Report written by bench, after.")]
    counts: MarginFlags
    md: Annotated[Path | None, typer.Option(help="Write it in Markdown here; - for stdout.")] = None
    json_summary: Json = False


def run_compare(flags: CompareFlags) -> None:
    """Say whether a model got better, worse, or stayed the same, and whether that can be told.

    Example: ardx compare old.json new.json
    """
    from edge_bench.compare.reports import compare_reports
    from edge_bench.compare.told import as_json, as_markdown
    from edge_bench.files.report_file import read_report

    refuse_outputs({"--md": flags.md}, (flags.base, flags.new), json_summary=flags.json_summary)
    reports = read_report(flags.base), read_report(flags.new)
    change = compare_reports(*reports, flags.counts.margin, flags.counts.latency_margin)
    if flags.md is not None and flags.md != STDOUT:
        write_text(flags.md, as_markdown(change))
    if flags.json_summary:
        print_json(as_json(change))
    elif flags.md == STDOUT:
        put(as_markdown(change), end="")
    else:
        _print(change)


def _print(change: Change) -> None:
    from edge_bench.compare import told

    if rows := told.accuracy_rows(change):
        print_table("accuracies", told.HEADER, rows)
    if rows := told.latency_rows(change):
        print_table("latency of one call", told.LATENCY_HEADER, rows)
    for line in told.sentences(change):
        say(line)
    say(told.verdict_line(change))


compare = command("compare", CompareFlags, run_compare)
