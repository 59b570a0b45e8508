"""Make the tables of docs/results/quantisation.md from the lines of finished artefacts.

python -m benchmarks.quantisation.report            writes them
python -m benchmarks.quantisation.report --check    exits 1 where the lines say otherwise
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import command
from benchmarks.documents import Maker, Rows, markdown, update
from benchmarks.lines import RESULTS, Line, read_lines, unpack
from benchmarks.quantisation.run import LINES
from deploy.allowed_drop.terms import Drop

HEADER = ["artefact", "clean", "worst case", "lost, points (95%)", "size", "speed", "in float"]


def main(
    lines: Annotated[Path, typer.Option(help="Lines of finished artefacts.")] = LINES,
    document: Annotated[Path, typer.Option(help="Document with the tables.")] = (
        RESULTS / "quantisation.md"
    ),
    check: Annotated[bool, typer.Option("--check", help="Compare, write nothing.")] = False,
) -> None:
    """Fill in the tables of the document."""
    update(document, maker(read_lines(lines)), check=check)


def maker(lines: list[Line]) -> Maker:
    """How the table of each student is made."""
    return lambda _, name: markdown(table([line for line in lines if line["name"] == name]))


def table(lines: list[Line]) -> Rows:
    """One row per artefact, each compared with FP32 on the same images, attacked alike.

    Speed is FP32's median latency over the artefact's, in the last run that timed them.
    """
    artefacts = {line["way"]: line for line in lines if line["way"] != "latency"}
    timed = [line["median_ms"] for line in lines if line["way"] == "latency"]
    before = unpack(artefacts["fp32"], "worst case")
    rows = [HEADER]
    for way, line in artefacts.items():
        robust = unpack(line, "worst case")
        lost = "" if way == "fp32" else str(Drop.between(before, robust))
        fast = timed and way in timed[-1]
        rows.append(
            [
                way,
                f"{100 * line['test']['clean']:.1f} %",
                f"{100 * robust.mean():.1f} %",
                lost,
                f"{line['size_bytes'] / 1024:.0f} KiB",
                f"{timed[-1]['fp32'] / timed[-1][way]:.2f}" if fast else "",
                ", ".join(f"`{layer}`" for layer in line["float_layers"]),
            ]
        )
    return rows


if __name__ == "__main__":
    command.run(main)
