"""Make the tables of docs/results/attacks.md from the lines of finished comparisons.

python -m benchmarks.attacks.report            writes them
python -m benchmarks.attacks.report --check    exits 1 where they are not what the lines say
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import command
from benchmarks.documents import Maker, Rows, markdown, update
from benchmarks.lines import RESULTS, Line, read_lines, unpack
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import mcnemar_p_value, wilson_interval

LINES = RESULTS / "attacks.jsonl"
DOCUMENT = RESULTS / "attacks.md"

OURS, CRAFTING, REFERENCE = "ardx", "ardx crafting", "pyautoattack"
NAMES = {OURS: "ardx, evaluation", CRAFTING: "ardx, crafting"}
NORMS = {"linf": "L-inf", "l2": "L2"}
AGREEMENTS = ("alone", "ensemble", "rounds")
STRENGTHS = ("strength", "restarts")


def main(
    lines: Annotated[Path, typer.Option(help="Lines of finished comparisons.")] = LINES,
    document: Annotated[Path, typer.Option(help="Document with the tables.")] = DOCUMENT,
    check: Annotated[bool, typer.Option("--check", help="Compare, write nothing.")] = False,
) -> None:
    """Fill in the tables of the document."""
    update(document, maker(read(lines)), check=check)


def read(path: Path) -> list[Line]:
    """The lines, in the order of their attacks, budgets and seeds."""
    found = read_lines(path)
    keys = ("model", "norm", "attack", "restarts", "images", "form", "seed")
    return sorted(found, key=lambda line: [line[key] for key in keys])


def maker(lines: list[Line]) -> Maker:
    """How each table is made."""
    return lambda _, name: markdown(TABLES[name](lines))


def agreement_table(lines: list[Line]) -> Rows:
    """Samples on which our evaluation and the reference end otherwise, summed over seeds."""
    rows = [
        [
            "attack",
            "norm",
            "model",
            "images",
            "seeds",
            "right on clean images",
            REFERENCE,
            OURS,
            "only ardx fools",
            "only pyautoattack fools",
        ]
    ]
    for group in grouped(lines, AGREEMENTS):
        one = group[0]
        ours, theirs = together(group, OURS), together(group, REFERENCE)
        counted = [together(group, "clean"), theirs, ours]
        rows.append(
            [
                one["attack"],
                NORMS[one["norm"]],
                f"{one['model']}, {one['form']}",
                str(one["images"]),
                str(len(group)),
                *(str(sum(mask)) for mask in counted),
                str(only(theirs, ours)),
                str(only(ours, theirs)),
            ]
        )
    return rows


def strength_table(lines: list[Line]) -> Rows:
    """Robust accuracy under each library's attack, and the samples that only one of two fools."""
    rows = [
        [
            "attack",
            "library",
            "robust accuracy",
            "95% interval",
            "only ardx fools",
            "only it fools",
            "p (McNemar)",
        ]
    ]
    for group in grouped(lines, STRENGTHS):
        for library in libraries(group):
            if library.endswith("folded"):
                continue
            kept = [int(unpack(line, library).sum()) for line in group]
            images = int(group[0]["images"])
            low, high = wilson_interval(round(statistics.fmean(kept)), images)
            pairs = [(unpack(line, OURS), unpack(line, library)) for line in group]
            ours = [only(theirs, mine) for mine, theirs in pairs]
            theirs = [only(mine, theirs) for mine, theirs in pairs]
            against = ["", "", ""]
            if library != OURS:
                ps = [mcnemar_p_value(a, b) for a, b in zip(ours, theirs, strict=True)]
                against = [listed(ours), listed(theirs), ", ".join(p_text(p) for p in ps)]
            rows.append(
                [
                    title(group[0]),
                    NAMES.get(library, library),
                    f"{100 * statistics.fmean(kept) / images:.1f}",
                    f"{100 * low:.1f} to {100 * high:.1f}",
                    *against,
                ]
            )
    return rows


def speed_table(lines: list[Line]) -> Rows:
    """Images per second of a core, and how many times as fast ours were in the same run."""
    rows = [
        ["attack", "library", "images/s", "evaluation, times as fast", "crafting, times as fast"]
    ]
    for group in grouped(lines, STRENGTHS):
        for library in libraries(group):
            attacked = [int(unpack(line, "clean").sum()) for line in group]
            rates = [n / second(line, library) for n, line in zip(attacked, group, strict=True)]
            compared = ["", ""]
            if library not in NAMES:
                compared = [spread(ratios(group, library, ours)) for ours in (OURS, CRAFTING)]
            rows.append(
                [title(group[0]), NAMES.get(library, library), f"{median(rates):.0f}", *compared]
            )
    return rows


def ensemble_table(lines: list[Line]) -> Rows:
    """How many times as fast the ensemble is through ardx, where there is more than one run."""
    rows = [["attack", "norm", "model", "images", "runs", "by a core's time", "by the clock"]]
    for group in grouped(lines, AGREEMENTS):
        one = group[0]
        if len(group) == 1:
            continue
        rows.append(
            [
                one["attack"],
                NORMS[one["norm"]],
                f"{one['model']}, {one['form']}",
                str(one["images"]),
                str(len(group)),
                *(spread(ratios(group, REFERENCE, OURS, clock)) for clock in ("cpu", "wall")),
            ]
        )
    return rows


def throughput_table(lines: list[Line]) -> Rows:
    """Crafting as a share of the rate of its gradients alone."""
    rows = [["crafting against", "rounds", "by a core's time", "by the clock"]]
    for group in grouped(lines, ("throughput",)):
        for bare in group[0]["seconds"]:
            if bare == CRAFTING:
                continue
            shares = [spread(ratios(group, bare, CRAFTING, clock)) for clock in ("cpu", "wall")]
            rows.append([f"{group[0]['model']}: {bare}", str(len(group)), *shares])
    return rows


def origin_table(lines: list[Line]) -> Rows:
    """Versions and weights that the lines came from."""
    facts: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        for name, version in line["versions"].items():
            facts[name].add(version)
        facts["sha256 of the weights"].add(f"{line['model']} {line['model_sha256'][:12]}")
        facts["commit"].add(line["commit"])
    return [["what", "which"], *([name, ", ".join(sorted(facts[name]))] for name in facts)]


TABLES: dict[str, Callable[[list[Line]], Rows]] = {
    "agreement": agreement_table,
    "strength": strength_table,
    "speed": speed_table,
    "ensemble": ensemble_table,
    "throughput": throughput_table,
    "origin": origin_table,
}


def grouped(lines: list[Line], parts: tuple[str, ...]) -> list[list[Line]]:
    """Lines that differ in the seed alone."""
    groups: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    keys = ("model", "norm", "attack", "restarts", "images", "form")
    for line in lines:
        if line["part"] in parts:
            groups[tuple(str(line[key]) for key in keys)].append(line)
    return list(groups.values())


def libraries(group: list[Line]) -> list[str]:
    """Ours first, whichever ran first."""
    return sorted(group[0]["seconds"], key=lambda name: (name not in NAMES, name))


def title(line: Line) -> str:
    """The attack with its budget."""
    budget = "8/255" if line["norm"] == "linf" else f"{line['epsilon']:g}"
    restarts = f", {line['restarts']} starts" if line["restarts"] > 1 else ""
    return f"{line['attack']}, {NORMS[line['norm']]} {budget}{restarts} (n = {line['images']})"


def together(group: list[Line], name: str) -> list[bool]:
    """A mask of all seeds, one after another."""
    return [bool(value) for line in group for value in unpack(line, name)]


def only(first: BoolArray | list[bool], second: BoolArray | list[bool]) -> int:
    """Samples that are right in the first mask alone: those that the second one's attack fools."""
    return sum(bool(a) and not b for a, b in zip(first, second, strict=True))


def second(line: Line, name: str, clock: str = "cpu") -> float:
    """Seconds of one side."""
    return float(line["seconds"][name][clock])


def ratios(group: list[Line], slower: str, faster: str, clock: str = "cpu") -> list[float]:
    """Seconds of one over those of the other, in each run."""
    return [second(line, slower, clock) / second(line, faster, clock) for line in group]


def median(values: list[float]) -> float:
    """Of one value or more."""
    return statistics.median(values)


def spread(values: list[float]) -> str:
    """Median with quartiles; of three values, these lie half way to the least and largest."""
    text = f"{median(values):.2f}"
    if len(values) == 1:
        return text
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{text} ({low:.2f} to {high:.2f})"


def listed(values: list[int]) -> str:
    """One number per seed."""
    return ", ".join(str(value) for value in values)


def p_text(p: float) -> str:
    """Two digits are enough."""
    return "< 0.01" if p < 0.01 else f"{p:.2f}"


if __name__ == "__main__":
    command.run(main)
