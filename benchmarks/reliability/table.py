"""Write the table of docs/explanation/reliability.md from the lines of `run`.

python -m benchmarks.reliability.table [--check]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import command
from benchmarks.documents import Rows, markdown, update
from benchmarks.lines import RESULTS, ROOT, Line, recorded

LINES = RESULTS / "reliability.jsonl"
PAGE = ROOT / "docs/explanation/reliability.md"
HEADER = ["promise", "tried by", "on", "tried", "held", "what failed"]


def rows(lines: list[Line]) -> Rows:
    """A row for each promise and what was done to try it, in the order of the lines."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["promise"], line["by"]), []).append(line)
    found = [HEADER]
    for (promise, by), parts in groups.items():
        failed = [f"{p['to']}: {why}" for p in parts for why in p["failed"]]
        tried, held = (sum(part[name] for part in parts) for name in ("tried", "held"))
        to = ", ".join(dict.fromkeys(part["to"] for part in parts))
        cells = [promise, by, to, f"{tried:,}", f"{held:,}", "; ".join(failed) or "-"]
        found.append([" ".join(cell.replace("|", "/").split()) for cell in cells])
    return found


def body(kind: str, name: str) -> str:
    """What stands in a block of the page."""
    lines = list(recorded(LINES).values())
    if kind == "about":
        commits = sorted({line["commit"] for line in lines})
        minutes = sum(line["seconds"] for line in lines) / 60
        return (
            f"Steps: {len(lines)}; commit {', '.join(commits)}; {minutes:.0f} minutes of processes."
        )
    return markdown(rows(lines))


def main(check: Annotated[bool, typer.Option(help="Only compare.")] = False) -> None:
    """Make the page's blocks anew."""
    update(Path(PAGE), body, check=check)


if __name__ == "__main__":
    command.run(main)
