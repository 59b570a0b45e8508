"""Two methods image by image: how many images each alone keeps, with McNemar's exact test.

    python -m benchmarks.methods.pairs longer "ard, learning rate 0.8" igdm
    python -m benchmarks.methods.pairs blackbox ard igdm
    python -m benchmarks.methods.pairs deployed "ard int8" "ard fp32"

For each seed and attack that both have lines of, and of students that were judged once more, each
stage that they are of. It says what other images would make of these two
networks, and nothing of other seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import command
from benchmarks.documents import Rows, markdown
from benchmarks.lines import LINES, Line, read_lines, unpack
from benchmarks.methods.tables.figures import lead_and_p
from edge_bench.core.errors import InputError
from edge_bench.statistics.stats import mcnemar_p_value

PRECISIONS = ("fp32", "int8")
"""Whose masks stand apart in lines of deployed students."""

HEAD = (
    "students of",
    "attack",
    "seed",
    "only the first",
    "only the second",
    "first minus second",
)


def main(
    stage: Annotated[str, typer.Argument(help="The stage of both.")],
    first: Annotated[str, typer.Argument(help="A label; of `deployed`, with its precision.")],
    second: Annotated[str, typer.Argument(help="The other.")],
    lines: Annotated[Path, typer.Option(help="Lines of finished runs.")] = LINES,
) -> None:
    """Print FIRST beside SECOND, a row for each seed and attack."""
    found = [line for line in read_lines(lines) if line["stage"] == stage]
    sides = [judged(found, name) for name in (first, second)]
    rows = paired(*sides)
    if not rows[1:]:
        raise InputError(
            f"{lines}: expected a seed of stage {stage} that {first!r} and {second!r} both have, "
            "found none; name labels that stand there"
        )
    typer.echo(markdown(rows))


def judged(found: list[Line], name: str) -> dict[tuple[str, int], Line]:
    """The lines of a label by the stage of its students and their seed, each with the masks that
    its name asks for."""
    label, _, precision = name.rpartition(" ")
    if precision in PRECISIONS:
        named = [line | line[precision] for line in of_label(found, label) if precision in line]
    else:
        named = [line for line in of_label(found, name) if "masks" in line]
    return {(line.get("of", line["stage"]), line["seed"]): line for line in named}


def of_label(found: list[Line], label: str) -> list[Line]:
    return [line for line in found if line["label"] == label]


def paired(first: dict[tuple[str, int], Line], second: dict[tuple[str, int], Line]) -> Rows:
    """A row for each stage, attack and seed that both have."""
    rows = []
    for stage, seed in first.keys() & second.keys():
        ours, theirs = first[stage, seed], second[stage, seed]
        for attack in ours["masks"].keys() & theirs["masks"].keys():
            a, b = unpack(ours, attack), unpack(theirs, attack)
            alone = int((a & ~b).sum()), int((b & ~a).sum())
            lead = lead_and_p((alone[0] - alone[1]) / len(a), mcnemar_p_value(*alone))
            rows.append([stage, attack, str(seed), *map(str, alone), lead])
    return [[*HEAD], *sorted(rows)]


if __name__ == "__main__":
    command.run(main)
