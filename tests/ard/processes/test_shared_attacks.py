"""Two processes started by torchrun attack and judge what one process does, to the bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ard.cli import app
from ard.commands.flags import check_shared
from ard.data.splits import Dataset
from ard.processes.world import ALONE, World
from edge_bench.cli import app as device_app
from edge_bench.core.errors import InputError

from ..conftest import SmallModels
from .test_world import torchrun
from .two_attackers import SAMPLES, share

SCRIPT = Path(__file__).with_name("two_attackers.py")
KINDS = ("pgd", "off-grid", "square", "apart", "fog", "again")
ATTACKS = ("--attacks", "fgsm,pgd5", "--each", "--no-doubts", "--seed", "3")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    # As many as each of the processes has.
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Shared:
    """What one process alone found, and what each of two found."""

    alone: Path
    two: Path

    def found(self, name: str) -> dict[str, Any]:
        """What a process told: `alone/rank0`, `two/rank0` or `two/rank1`."""
        path = self.alone.parent / f"{name}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def shared(
    small_models: SmallModels, small_int8: Path, tmp_path_factory: pytest.TempPathFactory
) -> Shared:
    folder = tmp_path_factory.mktemp("shared")
    found = Shared(folder / "alone", folder / "two")
    found.alone.mkdir()
    found.two.mkdir()
    weights = small_models.student.weights
    share(found.alone, weights, small_int8, ALONE)
    ended = torchrun(SCRIPT, "share", found.two, weights, small_int8)
    assert ended.code == 0, ended.stderr
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_processes_find_the_masks_of_one(shared: Shared) -> None:
    alone, first, second = map(shared.found, ("alone/rank0", "two/rank0", "two/rank1"))
    for name, found in alone.items():
        assert first[name] == found, name
        if not name.endswith("images"):
            assert second[name] == found, name
    # There was something to find, in every turn.
    assert all(0 < alone[name].count("0") < SAMPLES for name in ("pgd5", "square30"))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_write_the_set_of_one(shared: Shared, kind: str) -> None:
    assert contents(shared.two / kind) == contents(shared.alone / kind)
    assert not (shared.two / f".{kind}.partial").exists()


def test_processes_that_have_other_images_are_refused(shared: Shared) -> None:
    first, second = shared.found("two/rank0"), shared.found("two/rank1")
    assert first["other images"] == second["other images"]
    assert first["other images"].startswith("process 1 has images '")
    assert not (shared.two / "other").exists()


def test_more_processes_than_batches_are_refused(shared: Shared) -> None:
    assert shared.found("two/rank1")["too many"] == (
        "torchrun started 2 processes, but 40 images are 1 batch of 40, and a process takes whole "
        "batches; start at most 1"
    )
    World(size=2, rank=1).check_turns(251, 250)
    with pytest.raises(InputError, match=r"251 images are 2 batches of 250.*start at most 2"):
        World(size=3).check_turns(251, 250)


@pytest.fixture
def images(digits: Dataset, tmp_path: Path) -> Path:
    """Four batches of 250 and a part of one, of which the third turn of two has one alone."""
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "images.npy", digits.train.images[:1100].numpy())
    np.save(folder / "labels.npy", digits.train.labels[:1100].numpy())
    return folder


def run(arguments: list[str]) -> str:
    """ardx in this process; what it told."""
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    return ended.stderr


def only_error(stderr: str) -> str:
    (error,) = (line for line in stderr.splitlines() if line.startswith("error: "))
    return error


def test_a_set_whose_process_was_lost_goes_on_with_another_number(
    small_models: SmallModels, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    what = ["attack", str(small_models.student.weights), "--images", str(images)]
    what += ["--attack", "pgd3", "--torch-device", "cpu", "--out"]
    progress = tmp_path / ".cut.partial" / "progress.json"
    cut = torchrun(SCRIPT, "die", "1", progress, '"done": 500', *what, tmp_path / "cut")
    assert cut.code != 0
    error = only_error(cut.stderr)
    assert error.startswith("error: a worker was lost")
    assert error.endswith(
        "among the batches; start the same command again, which goes on with the set that it began"
    )
    assert not (tmp_path / "cut").exists()
    assert "goes on after 500 samples" in run([*what, str(tmp_path / "cut")])
    run([*what, str(tmp_path / "whole")])
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_an_evaluation_whose_process_was_lost_goes_on_and_ends_as_that_of_one(
    small_models: SmallModels, tmp_path: Path
) -> None:
    weights = str(small_models.student.weights)

    def what(name: str) -> list[str]:
        kept = ("--out", str(tmp_path / name / "e.json"), "--sets", str(tmp_path / name / "sets"))
        return ["evaluate", weights, *ATTACKS, "--torch-device", "cpu", *kept]

    # The second attack of the second process, which attacks one batch in each.
    ledger = tmp_path / "two" / ".e.unfinished.json"
    cut = torchrun(SCRIPT, "die", "1", ledger, '"fgsm"', *what("two"))
    assert cut.code != 0
    assert only_error(cut.stderr).endswith(
        "among the attacks; start the same command again, which goes on after the last whole attack"
    )
    assert not (tmp_path / "two" / "e.json").exists()

    rest = torchrun("-m", "ard", *what("two"), "--json")
    assert rest.code == 0, rest.stderr
    assert "fgsm" not in rest.stderr
    # One process speaks.
    assert rest.stderr.count("pgd5 360/360 pgd5") == 1
    run(what("one"))
    one, two = (told(tmp_path / name / "e.json") for name in ("one", "two"))
    assert two | {"sets": None} == one | {"sets": None}
    assert json.loads(rest.stdout)["accuracy"] == one["accuracy"]
    for kept in ("fgsm", "pgd5"):
        alone = contents(tmp_path / "one" / "sets" / kept)
        assert contents(tmp_path / "two" / "sets" / kept) == alone
    assert {p.name for p in (tmp_path / "two").iterdir()} == {"e.json", "sets"}


def told(path: Path) -> dict[str, Any]:
    """An evaluation without the digest of all, which is of the folder's name too."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    del found["content_sha256"]
    return found


@pytest.fixture
def of_two(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a job")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    return monkeypatch


@pytest.mark.parametrize("command", ["export", "bench", "adopt", "gate", "demo", "doctor"])
def test_what_one_process_does_is_refused_below_torchrun(
    of_two: pytest.MonkeyPatch, command: str
) -> None:
    ended = CliRunner().invoke(app, [command, "model.onnx"])
    assert ended.exit_code == 2
    assert ended.stderr == (
        f"error: {command}: is done by one process, and torchrun started 2; start it without "
        "torchrun; attack, distill, evaluate, teach run below it\n"
    )
    # Were it an error of the other process, torchrun might end the first before it has spoken.
    of_two.setenv("RANK", "1")
    ended = CliRunner().invoke(app, [command, "model.onnx"])
    assert (ended.exit_code, ended.output) == (0, "")


def test_no_command_of_a_device_runs_below_torchrun(of_two: pytest.MonkeyPatch) -> None:
    ended = CliRunner().invoke(device_app, ["gate", "report.json"])
    assert ended.exit_code == 2
    assert ended.stderr.endswith("start it without torchrun\n")


def test_one_process_of_torchrun_does_everything(of_two: pytest.MonkeyPatch) -> None:
    of_two.setenv("WORLD_SIZE", "1")
    assert CliRunner().invoke(app, ["doctor", "--json"]).exit_code == 0


def test_a_runtime_of_a_gpu_is_not_shared(small_models: SmallModels, small_int8: Path) -> None:
    several = World(size=2)
    with pytest.raises(InputError, match="--backend trt: is asked by one process, and torchrun"):
        check_shared(several, small_int8, "trt")
    check_shared(several, small_int8, "openvino")
    check_shared(several, small_models.student.weights, "trt")
    check_shared(ALONE, small_int8, "trt")


def test_an_error_of_both_processes_is_one_sentence(
    small_models: SmallModels, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    foreign = ("--import", tmp_path / "a.npz", "--out", tmp_path / "s")
    ended = torchrun("-m", "ard", "attack", weights, *foreign)
    assert ended.code != 0
    assert only_error(ended.stderr).endswith(
        "a.npz: is read from its start by one process, and torchrun started 2; start it without "
        "torchrun"
    )
