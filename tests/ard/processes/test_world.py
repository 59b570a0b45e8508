"""Two processes started by torchrun train what one process does, and end as one."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, active_count
from typing import Any

import pytest
import torch
import torch.distributed as dist
from typer.testing import CliRunner

from ard.cli import app
from ard.models.weight_files import load_tensors
from ard.processes.torchrun import _is_first_to_speak, _terminable, _TerminatedError, joined
from ard.processes.world import ALONE, World
from edge_bench.core.errors import InputError

from .conftest import Jobs
from .two_processes import METHODS

LOST = "in epoch 2; start the same command again with --resume"


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@dataclass(frozen=True)
class Measured:
    """What one process alone found, and what each of two found."""

    jobs: Jobs
    alone: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]


@pytest.fixture(scope="module")
def measured(jobs: Jobs) -> Measured:
    found = [jobs.found(name) for name in ("alone/updates0", "two/updates0", "two/updates1")]
    return Measured(jobs, found[0], found[1], found[2])


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_make_the_update_of_one(measured: Measured, method: str) -> None:
    alone, first = measured.alone[method], measured.first[method]
    assert first["names"] == alone["names"]
    for when in ("first", "last") if method == "natural" else ("first",):
        for what, found in first[when].items():
            assert found == pytest.approx(alone[when][what], rel=1e-4, abs=2e-5), what


@pytest.mark.parametrize("method", METHODS)
def test_both_processes_hold_the_same_bits(measured: Measured, method: str) -> None:
    assert measured.first[method] == measured.second[method]


def test_the_loss_curve_is_that_of_one_process(measured: Measured) -> None:
    alone, two = (losses(each / "of-rank-0") for each in (measured.jobs.alone, measured.jobs.two))
    assert len(alone) == 2
    assert two == pytest.approx(alone, rel=1e-3)


def test_only_the_first_process_writes(measured: Measured) -> None:
    first, second = (measured.jobs.two / f"of-rank-{rank}" for rank in (0, 1))
    names = {"checkpoint.safetensors", "config.toml", "metrics.jsonl", "w.safetensors"}
    assert {path.name for path in first.iterdir()} == names
    assert not second.exists()
    assert measured.first["learned"] == measured.second["learned"]


def test_an_error_of_the_first_process_is_every_process_s(measured: Measured) -> None:
    assert measured.first["missing"] == measured.second["missing"] == "said by process 0"


def test_processes_with_other_settings_are_refused(measured: Measured) -> None:
    assert measured.first["seeds"] == measured.second["seeds"]
    assert measured.first["seeds"].startswith("process 1 has seed 1, but process 0 has 0; give")


def test_weights_that_came_apart_are_refused(measured: Measured) -> None:
    for found in (measured.first, measured.second):
        assert "differ by up to 9.9e-03" in found["apart"]
        assert found["equal"] == ""


def test_a_network_of_timm_s_normalises_by_the_whole_batch(measured: Measured) -> None:
    for found in (measured.first, measured.second):
        for ours, expected in zip(found["timm"], measured.alone["timm"], strict=True):
            assert ours == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_what_cannot_normalise_by_the_whole_batch_is_refused_by_name(measured: Measured) -> None:
    for found in (measured.first, measured.second):
        assert found["by part"].startswith("1: normalises by the batch as BatchNorm1d does")


def test_a_lost_worker_ends_the_job_with_a_sentence_and_it_resumes_to_the_same_bits(
    jobs: Jobs,
) -> None:
    cut, out = jobs.first, jobs.folder / "teaching"
    assert cut.code != 0
    sentences = [line for line in cut.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, cut.stderr
    assert sentences[0].startswith("error: a worker was lost")
    assert sentences[0].endswith(LOST)
    assert "exitcode  : 3" in cut.stderr
    assert "ard/train.py" not in cut.stderr

    resumed, other = jobs.found("teaching0"), jobs.found("teaching1")
    assert (resumed["code"], other) == (0, {"code": 0, "stdout": "", "stderr": ""}), resumed
    # One process speaks: one summary, and one line of the epoch that was left.
    weights = Path(json.loads(resumed["stdout"])["weights"])
    assert resumed["stderr"].count("epoch 2 loss") == 1
    assert "epoch 1 loss" not in resumed["stderr"]
    undisturbed = jobs.two / "taught"
    assert losses(out) == losses(undisturbed)
    ours, _ = load_tensors(weights, "weights")
    theirs, _ = load_tensors(undisturbed / "teacher.safetensors", "weights")
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_a_usage_error_is_told_by_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a job")
    told = {}
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        result = CliRunner().invoke(app, ["teach", "--nonsense"])
        told[rank] = (result.exit_code, result.stderr)
    assert told["0"][0] == 2
    assert "--nonsense" in told["0"][1]
    # Were it an error of the other process, torchrun might end the first before it has spoken.
    assert told["1"] == (0, "")


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # What other launchers, or a shell that forgot an export, may leave behind.
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with joined() as world:
        assert world is ALONE


def test_the_parts_of_a_batch_are_its_samples_in_order() -> None:
    batch = torch.arange(6)
    parts = [World(rank=rank, size=3).part(batch) for rank in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2]
    assert torch.cat(parts).equal(batch)
    assert ALONE.part(batch) is batch


@pytest.mark.parametrize(("batch_size", "remedy"), [(100, "give 99"), (1, "give 3")])
def test_a_batch_that_cannot_be_shared_is_refused(batch_size: int, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        World(size=3).check_batch(batch_size)


def test_the_first_error_silences_the_others() -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    assert _is_first_to_speak(store)
    assert not _is_first_to_speak(store)


@pytest.fixture
def told_to_end() -> Iterator[Any]:
    """What is done about SIGTERM, which the tests' own process gets back."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    signal.signal(signal.SIGTERM, before)


def test_being_told_to_end_is_an_error_that_is_told_whole(told_to_end: Any) -> None:
    with pytest.raises(_TerminatedError), _terminable(lambda: None):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_an_error_is_not_cut_off_by_torchrun_while_it_is_left(
    told_to_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = []

    class Watcher(Thread):
        def join(self, timeout: float | None = None) -> None:
            ignored.append(signal.getsignal(signal.SIGTERM))
            super().join(timeout)

    monkeypatch.setattr("threading.Thread", Watcher)
    with pytest.raises(RuntimeError, match="Connection closed"), _terminable(lambda: None):
        raise RuntimeError("Connection closed by peer")
    assert ignored == [signal.SIG_IGN]


def test_after_a_sound_end_nothing_is_left(told_to_end: Any) -> None:
    threads, wakeup = active_count(), signal.set_wakeup_fd(-1)
    with _terminable(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is not told_to_end
        assert active_count() == threads + 1
    assert signal.getsignal(signal.SIGTERM) is told_to_end
    assert active_count() == threads
    assert signal.set_wakeup_fd(wakeup) == -1
