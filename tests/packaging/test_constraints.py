"""The lock of the development environment has all of it, each file by its hash, from nowhere."""

from __future__ import annotations

import re
from pathlib import Path

from edge_bench.files.store import parsed_toml

ROOT = Path(__file__).parents[2]
LOCK = ROOT / ".ci" / "constraints.txt"


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def test_every_dependency_is_locked_by_hashes_and_no_place_is_named() -> None:
    project = parsed_toml(ROOT / "pyproject.toml", "the project", "")["project"]
    extras = project["optional-dependencies"]
    parts = ("edge", "openvino", "tensorboard", "timm", "plots", "docs", "report", "train", "dev")
    asked = names(project["dependencies"] + [r for part in parts for r in extras[part]])
    text = LOCK.read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert asked - {"ardx"} <= names(blocks), "run make constraints"
    assert [block for block in blocks if "==" not in block or "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert not re.search(r"^\s*--?(i|index|extra|find)", text, re.MULTILINE)
