"""Make the tables of docs/results/changed.md from the lines of finished answers.

    python -m benchmarks.changed.report            writes them
    python -m benchmarks.changed.report --check    exits 1 where the lines say otherwise

Intervals are 95 %: of a share Wilson's, of a mean over corruptions and of a relative loss normal
over images (each image counts once, with all its corruptions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ard.crafting.corruptions import CORRUPTIONS
from benchmarks import command
from benchmarks.changed import path, path_tables
from benchmarks.changed.path_tables import short
from benchmarks.changed.run import BY_GRADIENTS, DIFFERENTIAL, LINES
from benchmarks.documents import Maker, markdown, update
from benchmarks.lines import RESULTS, Line, read_lines, unpack
from edge_bench.core.threats.attack import DIRECTIONS, SEVERITIES
from edge_bench.statistics.apart import Estimate, mean_of, relative_loss
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import wilson_interval

DOCUMENT = RESULTS / "changed.md"
ORDER = ("fp16", "x86", "x86-vnni", "arm", "budget", "qat")
Answers = dict[str, dict[str, Line]]
"""By artefact, then by question."""


def main(
    lines: Annotated[Path, typer.Option(help="Lines of finished answers.")] = LINES,
    path_lines: Annotated[Path, typer.Option(help="Those about files.")] = path.LINES,
    document: Annotated[Path, typer.Option(help="Document with the tables.")] = DOCUMENT,
    check: Annotated[bool, typer.Option("--check", help="Only compare.")] = False,
) -> None:
    """Write every table anew."""
    update(document, maker(answers(lines), path_tables.walked(path_lines)), check=check)


def answers(lines: Path) -> dict[str, Answers]:
    """The lines by network; then by artefact in the order of tables, and by question."""
    networks: dict[str, Answers] = {}
    for line in read_lines(lines):
        found = networks.setdefault(short(line["architecture"]), {})
        found.setdefault(line["artefact"], {})[line["question"]] = line
    order = {name: place for place, name in enumerate(ORDER)}
    return {
        network: dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))
        for network, found in networks.items()
    }


def maker(found: dict[str, Answers], walked: dict[str, path_tables.Walked]) -> Maker:
    """The blocks of the document, each named by what it has and of which network."""
    tables: dict[str, Callable[[Answers], Iterator[list[str]]]] = {
        "differential": differential_rows,
        "corruption": corruption_rows,
        "blind": blind_rows,
    }
    path_rows = {"path": path_tables.gap_rows, "crafted": path_tables.crafted_rows}

    def make(kind: str, name: str) -> str:
        what, network = name.split(" ")
        if kind == "text":
            is_path = what == "path-setting"
            return path_tables.setting(walked[network]) if is_path else setting(found[network])
        if what in tables:
            return markdown([*tables[what](found[network])])
        return markdown([*path_rows[what](walked[network])])

    return make


def setting(found: Answers) -> str:
    """On what the lines were made."""
    lines = [line for questions in found.values() for line in questions.values()]
    machines = sorted({line["machine"] for line in lines})
    commits = sorted({line["commit"] for line in lines})
    vnni = sorted({"with" if line["vnni"] else "without" for line in lines})
    return (
        f"{lines[0]['images']} stratified test images of {lines[0]['dataset']}, L-inf "
        f"{lines[0]['epsilon'] * 255:.0f}/255, {lines[0]['architecture']}; {'; '.join(machines)}, "
        f"{' and '.join(vnni)} VNNI; commits {', '.join(commits)}."
    )


def share(mask: BoolArray) -> str:
    """Percent with its interval."""
    low, high = wilson_interval(int(mask.sum()), len(mask))
    return f"{100 * mask.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


def apart(line: Line) -> BoolArray:
    """The samples that a differential attack told apart in its direction."""
    parent, artefact = unpack(line, "parent"), unpack(line, "artefact")
    errs = line["question"].endswith("artefact errs")
    found: BoolArray = (parent & ~artefact) if errs else (artefact & ~parent)
    return found


def differential_rows(found: Answers) -> Iterator[list[str]]:
    """One row per artefact."""
    names = [f"{attack}, {d} errs" for attack in DIFFERENTIAL for d in DIRECTIONS]
    yield ["artefact", "other class, unattacked", *names, "either, all of these"]
    for artefact, lines in found.items():
        if "clean" not in lines:
            continue
        masks = [apart(lines[name]) if name in lines else None for name in names]
        clean = lines["clean"]
        parent, ours = unpack(clean, "parent"), unpack(clean, "artefact")
        told = [mask for mask in masks if mask is not None]
        either = np.logical_or.reduce([parent != ours, *told])
        yield [
            f"`{artefact}`",
            share(unpack(clean, "differ")),
            *("not run" if mask is None else share(mask) for mask in masks),
            share(either) if len(told) >= len(DIRECTIONS) else "not run",
        ]


def corruption_rows(found: Answers) -> Iterator[list[str]]:
    """One row per artefact: means over corruptions and severities, and what is lost of them."""
    header = [f"loss at severity {severity}" for severity in SEVERITIES]
    yield ["artefact", "corruptions", "parent", "artefact's mean", "relative loss", *header]
    for artefact, lines in found.items():
        kinds = [
            lines[f"corruption {name}"] for name in CORRUPTIONS if f"corruption {name}" in lines
        ]
        if not kinds:
            continue
        every = [(k, s) for k in kinds for s in SEVERITIES]
        ours, theirs = _means(every, "artefact"), _means(every, "parent")
        losses = []
        for severity in SEVERITIES:
            each = [(kind, severity) for kind in kinds]
            lost = relative_loss(_means(each, "artefact"), _means(each, "parent"))
            losses.append(_percent(lost))
        yield [
            f"`{artefact}`",
            str(len(kinds)),
            _percent(mean_of(theirs)),
            _percent(mean_of(ours)),
            _percent(relative_loss(ours, theirs)),
            *losses,
        ]


def blind_rows(found: Answers) -> Iterator[list[str]]:
    """What each artefact keeps of attacks by class, by scores and by gradients."""
    blind = [q for lines in found.values() for q in lines if q.startswith(("rays", "square"))]
    names = ["clean", f"bpda {BY_GRADIENTS}", *sorted(set(blind))]
    yield ["artefact", *names]
    for artefact, lines in found.items():
        if not set(names[1:]) & set(lines):
            continue
        told = [share(unpack(lines[n], "artefact")) if n in lines else "not run" for n in names]
        yield [f"`{artefact}`", *told]


def _means(parts: list[tuple[Line, int]], who: str) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.mean(
        [unpack(line, f"{who} {severity}") for line, severity in parts], axis=0
    )
    return found


def _percent(figure: Estimate) -> str:
    low, high = figure.interval()
    return f"{100 * figure.value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


if __name__ == "__main__":
    command.run(main)
