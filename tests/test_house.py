"""The measures of the house: rooms, files and functions that can be read at a glance."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("ard", "deploy", "edge_bench", "comment", "tests", "benchmarks", "docs", "examples")
MOST_FILES, MOST_LINES, LONGEST_FUNCTION = 15, 500, 60


def sources() -> Iterator[Path]:
    for room in ROOMS:
        yield from (p for p in sorted((ROOT / room).rglob("*.py")) if "_build" not in p.parts)


def test_no_folder_of_code_has_more_files_than_a_glance_takes_in() -> None:
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in sources())
    assert {name: n for name, n in folders.items() if n > MOST_FILES} == {}


def test_no_file_and_no_function_is_longer_than_its_bar() -> None:
    long: list[str] = []
    for path in sources():
        text, name = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
        if (lines := len(text.splitlines())) > MOST_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{name}: {node.name} of {length} lines")
    assert long == []
