"""Students of the comparison that are judged once more, by something else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lines import Line, claim, finished, read_lines
from edge_bench.core.errors import InputError
from edge_bench.files.store import require_file, sha256_file


@dataclass(frozen=True, kw_only=True)
class Student:
    """One of them: its weights, and what every further line says of it."""

    weights: Path
    line: Line


def students(
    lines: Path, work: Path, *, of: str, stage: str, labels: list[str] | None = None
) -> Iterator[Student]:
    """Each student of the stage `of` that has no line of `stage` yet and no other process is at.

    Every first seed comes before every second one, so that a table cut short compares like with
    like.

    Args:
        work: the folder that run.py left them in.
        labels: only those methods.

    Raises:
        InputError: there are no lines, none of that stage and those methods, or the weights of one
            are gone; names the file.
    """
    found = [
        one
        for one in read_lines(lines)
        if one["stage"] == of and (not labels or one["label"] in labels)
    ]
    if not found:
        asked = " and ".join([f"--stage {of}", *(f"--label {name}" for name in labels or [])])
        raise InputError(f"{asked}: expected finished runs of it in {lines}, found none")
    for one in sorted(found, key=lambda each: int(each["seed"])):
        name = f"{stage} {one['id']}"
        folder = work / one["weights"]
        with claim(folder) as is_ours:
            if not is_ours or name in finished(lines):
                continue
            weights = require_file(folder / "student.safetensors", "a student that run.py trained")
            told = {key: one[key] for key in ("label", "seed", "settings", "weights")}
            told |= {"id": name, "stage": stage, "of": of}
            told["weights_sha256"] = sha256_file(weights)
            yield Student(weights=weights, line=told)
