"""Jobs of two processes that torchrun starts, and what one process alone does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ard.data.splits import Dataset
from ard.processes.world import ALONE

from ..conftest import SmallModels
from .two_attackers import share
from .two_processes import measure

ATTACKS = ("--attacks", "fgsm,pgd5", "--each", "--no-doubts", "--seed", "3")


@dataclass(frozen=True)
class Ended:
    """A job of torchrun, or one of its attempts: what its processes wrote."""

    code: int
    stdout: str
    stderr: str


def torchrun(*arguments: str | Path) -> Ended:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    with subprocess.Popen(
        [*command, "--nproc-per-node", "2", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as job:
        try:
            stdout, stderr = job.communicate(timeout=480)
        except BaseException:
            # Of a job that hangs no process may stay behind, neither torchrun's nor its workers.
            os.killpg(job.pid, signal.SIGKILL)
            raise
    return Ended(job.returncode, stdout, stderr)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@dataclass(frozen=True)
class Jobs:
    """What two jobs left, and what one process alone found.

    The first loses a process while it trains. The second loses one while it judges, one while it
    writes a set, and then goes on with what was begun, and more.
    """

    folder: Path
    weights: Path
    first: Ended
    second: Ended

    @property
    def alone(self) -> Path:
        """Where one process left what it found."""
        return self.folder / "alone"

    @property
    def two(self) -> Path:
        """Where two processes left the same."""
        return self.folder / "two"

    def found(self, name: str) -> dict[str, Any]:
        """What a process told: `alone/attacks0`, `two/updates1` and their like."""
        found: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text("utf-8"))
        return found

    def attempt(self, number: int) -> str:
        """What both processes of an attempt of the second job wrote to stderr."""
        logs = sorted(self.folder.glob(f"logs/*/attempt_{number}/*/stderr.log"))
        assert len(logs) == 2, self.second.stderr
        return "".join(log.read_text("utf-8") for log in logs)

    def set_arguments(self, out: Path) -> list[str]:
        """Of the set whose process is lost."""
        images = ["--images", str(self.folder / "images")]
        attack = ["--attack", "pgd3", "--torch-device", "cpu", "--out", str(out)]
        return ["attack", str(self.weights), *images, *attack]

    def evaluation_arguments(self, out: Path) -> list[str]:
        """Of the evaluation whose process is lost."""
        kept = ["--out", str(out / "e.json"), "--sets", str(out / "sets")]
        return ["evaluate", str(self.weights), *ATTACKS, "--torch-device", "cpu", *kept]

    @property
    def teaching(self) -> list[str]:
        """Of the training whose process is lost."""
        data = ["--dataset", "digits", "--train-fraction", "0.2", "--arch", "resnet8:4"]
        steps = ["--epochs", "2", "--batch-size", "64", "--inner-steps", "1"]
        out = ["--json", "--out", str(self.folder / "teaching")]
        return ["teach", *data, *steps, "--method", "pgd_at", "--epsilon", "0.15", *out]


@contextmanager
def one_thread() -> Iterator[None]:
    """As many as each of the processes has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def jobs(
    digits: Dataset,
    small_models: SmallModels,
    small_int8: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Jobs:
    folder = tmp_path_factory.mktemp("jobs")
    for name in ("alone", "two", "images"):
        (folder / name).mkdir()
    # Four batches of 250 and a part of one, of which the third turn of two has one alone.
    np.save(folder / "images" / "images.npy", digits.train.images[:1100].numpy())
    np.save(folder / "images" / "labels.npy", digits.train.labels[:1100].numpy())
    weights = small_models.student.weights
    with one_thread():
        share(folder / "alone", weights, small_int8, ALONE)
        measure(folder / "alone", ALONE)
    jobs = Jobs(folder, weights, Ended(0, "", ""), Ended(0, "", ""))
    foreign = ["attack", str(weights), "--import", str(folder / "a.npz")]
    tasks = {
        "weights": str(weights),
        "artefact": str(small_int8),
        "teaching": jobs.teaching,
        "evaluation": jobs.evaluation_arguments(folder / "judged"),
        "set": jobs.set_arguments(folder / "cut"),
        "error": [*foreign, "--out", str(folder / "s")],
    }
    (folder / "tasks.json").write_text(json.dumps(tasks), "utf-8")
    here = Path(__file__)
    first = torchrun(here.with_name("two_processes.py"), *jobs.teaching)
    logged = ("--redirects", "3", "--log-dir", folder / "logs")
    restarts = ("--max-restarts", "2")
    second = torchrun(*restarts, *logged, here.with_name("two_in_turn.py"), folder)
    return Jobs(folder, weights, first, second)
