"""Two processes started by torchrun attack and judge what one process does, to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ard.cli import app
from ard.commands.flags import check_shared
from ard.processes.world import ALONE, World
from edge_bench.cli import app as device_app
from edge_bench.core.errors import InputError

from ..conftest import SmallModels
from .conftest import Jobs, contents
from .two_attackers import SAMPLES

KINDS = ("pgd", "off-grid", "square", "apart", "fog", "again")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    # As many as each of the processes has.
    torch.set_num_threads(1)


def test_two_processes_find_the_masks_of_one(jobs: Jobs) -> None:
    alone, first, second = map(jobs.found, ("alone/attacks0", "two/attacks0", "two/attacks1"))
    for name, found in alone.items():
        assert first[name] == found, name
        if not name.endswith("images"):
            assert second[name] == found, name
    # There was something to find, in every turn.
    assert all(0 < alone[name].count("0") < SAMPLES for name in ("pgd5", "square30"))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_write_the_set_of_one(jobs: Jobs, kind: str) -> None:
    assert contents(jobs.two / kind) == contents(jobs.alone / kind)
    assert not (jobs.two / f".{kind}.partial").exists()


def test_processes_that_have_other_images_are_refused(jobs: Jobs) -> None:
    first, second = jobs.found("two/attacks0"), jobs.found("two/attacks1")
    assert first["other images"] == second["other images"]
    assert first["other images"].startswith("process 1 has images '")
    assert not (jobs.two / "other").exists()


def test_more_processes_than_batches_are_refused(jobs: Jobs) -> None:
    assert jobs.found("two/attacks1")["too many"] == (
        "torchrun started 2 processes, but 40 images are 1 batch of 40, and a process takes whole "
        "batches; start at most 1"
    )
    World(size=2, rank=1).check_turns(251, 250)
    with pytest.raises(InputError, match=r"251 images are 2 batches of 250.*start at most 2"):
        World(size=3).check_turns(251, 250)


def run(arguments: list[str]) -> str:
    """ardx in this process; what it told."""
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    return ended.stderr


def only_error(stderr: str) -> str:
    (error,) = (line for line in stderr.splitlines() if line.startswith("error: "))
    return error


def test_a_set_whose_process_was_lost_goes_on_with_another_number(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    error = only_error(jobs.attempt(1))
    assert error.startswith("error: a worker was lost")
    assert error.endswith(
        "among the batches; start the same command again, which goes on with the set that it began"
    )
    assert not (jobs.folder / "cut").exists()
    shutil.copytree(jobs.folder / ".cut.partial", tmp_path / ".cut.partial")
    assert "goes on after 500 samples" in run(jobs.set_arguments(tmp_path / "cut"))
    run(jobs.set_arguments(tmp_path / "whole"))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_an_evaluation_whose_process_was_lost_goes_on_and_ends_as_that_of_one(
    jobs: Jobs, tmp_path: Path
) -> None:
    assert only_error(jobs.attempt(0)).endswith(
        "among the attacks; start the same command again, which goes on after the last whole attack"
    )
    rest, other = jobs.found("evaluation0"), jobs.found("evaluation1")
    assert (rest["code"], other) == (0, {"code": 0, "stdout": "", "stderr": ""}), rest
    assert "fgsm" not in rest["stderr"]
    # One process speaks.
    assert rest["stderr"].count("pgd5 360/360 pgd5") == 1
    run(jobs.evaluation_arguments(tmp_path))
    judged = jobs.folder / "judged"
    one, two = (told(folder / "e.json") for folder in (tmp_path, judged))
    assert two | {"sets": None} == one | {"sets": None}
    assert json.loads(rest["stdout"])["accuracy"] == one["accuracy"]
    for kept in ("fgsm", "pgd5"):
        assert contents(judged / "sets" / kept) == contents(tmp_path / "sets" / kept)
    assert {p.name for p in judged.iterdir()} == {"e.json", "sets"}


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


def test_an_error_of_both_processes_is_one_sentence(jobs: Jobs) -> None:
    assert jobs.second.code != 0
    assert only_error(jobs.attempt(2)).endswith(
        "a.npz: is read from its start by one process, and torchrun started 2; start it without "
        "torchrun"
    )
