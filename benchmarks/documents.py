"""Documents whose tables are made from the lines of finished runs, and held to them by tests.

Between `<!-- table NAME -->`, or another kind than a table, and `<!-- end -->` stands what is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import typer

from edge_bench.files.store import require_file

Rows = list[list[str]]
Maker = Callable[[str, str], str]
"""(kind, name) of a block to its body."""


def update(document: Path, make: Maker, *, check: bool) -> None:
    """Make every block of the document anew; `check` only compares, and exits 1 if they differ.

    Raises:
        InputError: there is no such document.
    """
    require_file(document, "a document with places for tables")
    before = document.read_text(encoding="utf-8")
    after = filled(before, make)
    if not check:
        document.write_text(after, encoding="utf-8")
    elif before != after:
        raise typer.Exit(1)


def filled(text: str, make: Maker) -> str:
    """The text with its blocks made anew."""

    def block(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        return f"<!-- {kind} {name} -->\n{make(kind, name)}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) (.+?) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def markdown(rows: Rows) -> str:
    """A table in Markdown; the first row is the header."""
    header, *body = rows
    ruler = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ruler, *body])
