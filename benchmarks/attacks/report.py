"""Tables of docs/results/attacks.md."""

from __future__ import annotations

from benchmarks.methods.lines import RESULTS, Line

LINES = RESULTS / "attacks.jsonl"
DOCUMENT = RESULTS / "attacks.md"


def read(path: object) -> list[Line]:
    return []


def fill(text: str, lines: list[Line]) -> str:
    return text
