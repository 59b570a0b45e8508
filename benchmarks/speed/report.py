"""Make the tables of docs/results/speed.md from the lines of `run`.

python -m benchmarks.speed.report [--check]
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import command
from benchmarks.documents import Maker, Rows, markdown, update
from benchmarks.lines import RESULTS, Line, recorded
from benchmarks.speed.finding import HOWS, Finding
from benchmarks.speed.run import LINES, SUBJECTS, subject_named

PAGE = RESULTS / "speed.md"
OWN_LOAD = 0.5
"""What the suite may make beyond a load of every core, before its lines say that others worked."""
WORDS = {
    "over": "ours / theirs",
    "times as fast": "times as fast",
    "more": "ours less theirs",
    "itself": "",
    "exponent": "exponent",
}


def newest(lines: Iterable[Line]) -> list[Line]:
    """One line of each figure and kind of machine: the last one, of the full form where it ran."""
    found: dict[tuple[str, ...], Line] = {}
    for line in lines:
        key = (line["subject"], line["case"], line["rival"], line["kind"])
        if key not in found or found[key]["quick"] or not line["quick"]:
            found.pop(key, None)
            found[key] = line
    return list(found.values())


def table(lines: list[Line]) -> Rows:
    """A row for each figure, a column for each kind of machine."""
    kinds = sorted({line["kind"] for line in lines})
    rows: Rows = [["what", "against", "bar", *kinds]]
    figures: dict[tuple[str, str, str], dict[str, Line]] = {}
    for line in lines:
        what = (line["case"], line["rival"], _bar(Finding.read(line)))
        figures.setdefault(what, {})[line["kind"]] = line
    for (case, rival, bar), by_kind in figures.items():
        cells = [_cell(by_kind[kind]) if kind in by_kind else "" for kind in kinds]
        rows.append([_plain(each) for each in (case, rival, bar, *cells)])
    return rows


def _bar(finding: Finding) -> str:
    words = WORDS[finding.how]
    if finding.bar is None:
        return words
    unit = f" {finding.unit}" if finding.how in ("more", "itself") else ""
    return f"{words} {HOWS[finding.how]} {finding.bar:g}{unit}".strip()


def _cell(line: Line) -> str:
    found = Finding.read(line)
    if found.value is None:
        return found.note
    text = f"{found.value:.3g}"
    if found.turns > 1 and found.low is not None and found.high is not None:
        text += f" ({found.low:.3g} to {found.high:.3g})"
    if found.ours is not None and found.theirs is not None:
        text += f", {_amount(found.ours, found.unit)} against {_amount(found.theirs, found.unit)}"
    elif found.how == "itself":
        text += f" {found.unit}"
    notes = [found.note] if found.note else []
    if line["quick"]:
        notes.append("quick form")
    if (load := max(line["load_before"], line["load_after"])) > line["cores"] + OWN_LOAD:
        notes.append(f"beside other work, load {load:g}")
    verdict = {True: "**held**", False: "**missed**", None: ""}[found.held]
    if verdict and not found.clear:
        verdict += ", the turns disagree"
    return "; ".join(part for part in (text, verdict, *notes) if part)


def _amount(value: float, unit: str) -> str:
    """Seconds in the unit that people read them in."""
    if unit != "s" or value >= 0.1:
        return f"{value:.3g} {unit}"
    return f"{1e3 * value:.3g} ms" if value >= 1e-4 else f"{1e6 * value:.3g} us"


def _plain(cell: str) -> str:
    return " ".join(cell.replace("|", "/").split())


def machines(lines: list[Line]) -> Rows:
    """What the columns are: processors, code, versions, and how busy they were."""
    rows: Rows = [["kind", "processor", "code", "load", "versions"]]
    for kind in sorted({line["kind"] for line in lines}):
        of_kind = [line for line in lines if line["kind"] == kind]
        loads = [line[name] for line in of_kind for name in ("load_before", "load_after")]
        packages = sorted({name for line in of_kind for name in line["versions"]})
        versions = [
            f"{name} " + ", ".join(sorted({v for v in _versions(of_kind, name) if v}))
            for name in packages
        ]
        processors = {f"{line['cores']} cores of an {line['processor']}" for line in of_kind}
        rows.append(
            [
                kind,
                "; ".join(sorted(processors)) + ("" if of_kind[-1]["bf16"] else ", no bfloat16"),
                ", ".join(sorted({line["code"] for line in of_kind})),
                f"{min(loads):g} to {max(loads):g}",
                "; ".join(versions),
            ]
        )
    return rows


def _versions(lines: list[Line], package: str) -> list[str | None]:
    return [line["versions"].get(package) for line in lines]


def maker(lines: list[Line]) -> Maker:
    """How each block is made: `machines all`, and the section of every subject."""

    def make(kind: str, name: str) -> str:
        if kind == "machines":
            return markdown(machines(lines))
        return "\n\n".join(_section(each, lines) for each in SUBJECTS)

    return make


def _section(name: str, lines: list[Line]) -> str:
    subject = subject_named(name)
    own = [line for line in lines if line["subject"] == name]
    parts = [f"## {subject.TITLE}", f"`make bench ONLY={name}`. {_text(subject.ABOUT)}"]
    parts.append(markdown(table(own)) if own else "Not measured yet.")
    if any(Finding.read(line).held is False for line in own):
        parts.append(f"**What is left.** {_text(subject.LEFT)}")
    return "\n\n".join(parts)


def _text(text: str) -> str:
    return " ".join(text.split())


def main(
    lines: Annotated[Path, typer.Option(help="Lines of `run`.")] = LINES,
    page: Annotated[Path, typer.Option(help="The page to fill.")] = PAGE,
    check: Annotated[bool, typer.Option("--check", help="Compare, write nothing.")] = False,
) -> None:
    """Make the page's blocks anew."""
    update(page, maker(newest(recorded(lines).values())), check=check)


if __name__ == "__main__":
    command.run(main)
