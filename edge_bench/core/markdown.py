"""Markdown of texts that others wrote: names of classes, files and attacks are no markup."""

from __future__ import annotations

import re

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~>-])")
CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)
"""Control characters, marks and overrides of the direction of writing, halves of characters (which
no UTF-8 has), and invisible tags."""


def plain(text: str) -> str:
    """`text` on one line, without characters that steer a terminal or turn the writing round."""
    return CONTROL.sub(" ", text)


def escaped(text: str) -> str:
    """`text` as Markdown (and HTML in it) that shows it as it is, and calls nobody by @name."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    return SPECIAL.sub(r"\\\1", safe).replace("@", "@\u2060")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of plain texts, the first column to the left and the others to the right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)]]
    told = [[escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*lines, *told]) + "\n"
