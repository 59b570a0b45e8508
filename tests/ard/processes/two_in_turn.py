"""What the second of the jobs of conftest.py runs: FOLDER, with its `tasks.json`.

Its second process is lost in an evaluation, and in the next attempt in a set. In the last attempt
both go on with what the lost ones began, do what one process did alone, and end with an error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Not by a dot: this is run as a script.
from two_attackers import die, share  # type: ignore[import-not-found]
from two_processes import measure  # type: ignore[import-not-found]
from typer.testing import CliRunner

import ard.processes.torchrun
from ard.__main__ import main
from ard.cli import app
from ard.processes.torchrun import joined
from ard.processes.world import World


@contextmanager
def apart(name: str) -> Iterator[None]:
    """Keys of its own in torchrun's store for a group, since a job here has one after the other."""
    prefixed = ard.processes.torchrun._prefixed
    ard.processes.torchrun._prefixed = lambda prefix, store: prefixed(f"{name}/{prefix}", store)
    yield
    ard.processes.torchrun._prefixed = prefixed


@contextmanager
def group(name: str) -> Iterator[World]:
    with apart(name), joined() as world:
        yield world


def told(name: str, arguments: list[str], folder: Path) -> None:
    """Leave what ardx said to the arguments, and how it ended."""
    with apart(name):
        ended = CliRunner().invoke(app, arguments)
    found = {"code": ended.exit_code, "stdout": ended.stdout, "stderr": ended.stderr}
    path = folder / f"{name}{os.environ['RANK']}.json"
    path.write_text(json.dumps(found), encoding="utf-8")


def rest(tasks: dict[str, Any], folder: Path) -> None:
    with group("attacks") as world:
        share(folder / "two", Path(tasks["weights"]), Path(tasks["artefact"]), world)
    with group("updates") as world:
        measure(folder / "two", world)
    told("evaluation", [*tasks["evaluation"], "--json"], folder)
    told("teaching", [*tasks["teaching"], "--resume"], folder)
    sys.argv[1:] = tasks["error"]
    main("ardx")


def attempt(number: int, folder: Path) -> None:
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    if number == 0:
        # The second attack of the second process, which attacks one batch in each.
        die(1, folder / "judged" / ".e.unfinished.json", '"fgsm"', tasks["evaluation"])
    elif number == 1:
        die(1, folder / ".cut.partial" / "progress.json", '"done": 500', tasks["set"])
    else:
        rest(tasks, folder)


if __name__ == "__main__":
    attempt(int(os.environ["TORCHELASTIC_RESTART_COUNT"]), Path(sys.argv[1]))
