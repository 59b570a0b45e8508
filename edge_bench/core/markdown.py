"""Texts that others wrote, such as names of classes, files and attacks: no markup, no command.

A runner of GitHub's takes its commands out of all that a job prints, on either stream.
"""

from __future__ import annotations

import os
import re

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~>-])")
CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    r"\ufffe\uffff\U000e0000-\U000e007f]"
)
"""Control characters, marks and overrides of the direction of writing, halves of characters (which
no UTF-8 has), what is no character at all (which no XML has), and invisible tags."""

JOINER = "\u2060"
"""Draws nothing."""
COMMAND = re.compile(r"(?<=##)(?=\[)|(?:^|(?<=\r))[^\S\n\r]*(?=::)", re.MULTILINE)
"""Where a command of the runner's begins: `##[name]` anywhere, `::name::` first after blanks."""


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


def inert(text: str) -> str:
    """`text` without commands of the runner, below which names of files and classes may be some."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return text
    return COMMAND.sub(rf"\g<0>{JOINER}", text)


def inert_json(text: str) -> str:
    """JSON that holds the same, without the one form that can stand in it."""
    return text.replace("##[", "#\\u0023[")
