"""Crafting that is killed goes on where it was, and needs one batch of memory for any set."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ard.cli import app
from ard.data.sources import SplitSource
from edge_bench.files.sets import open_set

from ..conftest import SmallModels
from .crafting_child import BATCH, CLASSES, SAMPLES, craft, split, watched

CHILD = Path(__file__).with_name("crafting_child.py")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_at(out: Path, batch: int) -> None:
    """Craft in a process that is killed with -9 when it asks for a batch."""
    command = [sys.executable, str(CHILD), "stuck", str(out), str(batch)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "stuck\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL


@pytest.fixture(autouse=True)
def one_thread() -> None:
    # As many as the child has, whatever ran before in this process.
    torch.set_num_threads(1)


def test_a_killed_crafting_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole = craft(watched(), tmp_path / "whole")
    kill_at(tmp_path / "s", 2)
    assert not (tmp_path / "s").exists()
    images = tmp_path / ".s.partial" / "set" / "images.npy"
    with images.open("ab") as file:
        file.write(b"a batch that was not counted")
    rest = watched()
    assert craft(rest, tmp_path / "s") == whole
    assert rest.begins == [2 * BATCH, 3 * BATCH]
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "whole"]


@pytest.mark.parametrize("change", ["seed", "images"])
def test_another_command_after_a_stop_starts_over(tmp_path: Path, change: str) -> None:
    def stop(begin: int) -> None:
        if begin:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        craft(watched(stop), tmp_path / "s")
    seed = int(change == "seed")
    data = split()
    if change == "images":
        data.images[0] ^= 1
    source = SplitSource(data, "noise", CLASSES)
    craft(source, tmp_path / "s", seed=seed)
    craft(source, tmp_path / "fresh", seed=seed)
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_a_set_is_written_in_the_order_of_its_source(tmp_path: Path) -> None:
    craft(watched(), tmp_path / "s")
    found = open_set(tmp_path / "s")
    assert torch.equal(torch.from_numpy(found.clean.copy()), split().images)
    assert torch.equal(torch.from_numpy(found.labels.copy()), split().labels)
    assert found.manifest.samples == SAMPLES


def test_a_million_images_need_no_more_memory_than_ten_thousand(tmp_path: Path) -> None:
    # In one process, whose peak can only grow.
    command = [sys.executable, str(CHILD), "large", str(tmp_path), "10000", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    # Their arrays hold 41 MB on the disk, once more as large as those they are made from; two
    # masks of a replay are 1 MB each, and what the artefact said of each image 6 MB.
    assert many - few < 20_000_000


def test_ctrl_c_says_that_the_same_command_goes_on(
    small_models: SmallModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    weights = str(small_models.student.weights)
    arguments = ["attack", weights, "--attack", "pgd60", "--out", str(tmp_path / "s")]
    command = [sys.executable, "-m", "ard", *arguments]
    progress = tmp_path / ".s.partial" / "progress.json"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        while not (progress.exists() and '"done": 250' in progress.read_text()):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, error = child.communicate()
    assert child.returncode == 130
    assert "interrupted: the same command goes on" in error
    assert "Traceback" not in error
    assert "goes on after 250 samples" in CliRunner().invoke(app, arguments).stderr
    assert open_set(tmp_path / "s").manifest.samples == 360
