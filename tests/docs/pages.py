"""The pages that people read: README, its companions and docs, and what stands in them as code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def pages() -> list[Path]:
    """Every page but the results, which record the commands of their day."""
    docs = (ROOT / "docs").rglob("*.md")
    wanted = [p for p in docs if not {"_build", "results"} & set(p.relative_to(ROOT).parts)]
    return sorted([*ROOT.glob("*.md"), *wanted])


def shell_lines(text: str) -> list[str]:
    """The command lines of a page's `sh` blocks; a backslash joins a line to the next one."""
    blocks = [block for language, block in FENCE.findall(text) if language == "sh"]
    joined = [re.sub(r"\\\n\s*", "", block) for block in blocks]
    return [line for block in joined for line in block.splitlines() if line.strip()]


def code_spans(text: str) -> list[str]:
    """What stands between single backticks, outside of blocks."""
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]
