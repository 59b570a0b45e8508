"""The tutorial, run as it stands there, on a folder of pictures that is made here."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ard.cli import app
from edge_bench.core.spec import Report
from edge_bench.files.store import read_json

from .pages import ROOT, shell_lines

SIDE = 16


def draw_pictures(folder: Path) -> None:
    """Waves that run across or along a picture, in noise: 40 of each to train, 12 to test."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 12)):
        for name in ("across", "along"):
            place = folder / split / name
            place.mkdir(parents=True)
            for index in range(n):
                wave = 127 + 100 * np.sin(np.arange(SIDE) * 1.2 + rng.uniform(0, 2 * np.pi))
                rows = np.broadcast_to(wave[:, None, None], (SIDE, SIDE, 3))
                image = rows if name == "across" else rows.transpose(1, 0, 2)
                noisy = np.clip(image + rng.normal(0, 10, image.shape), 0, 255)
                Image.fromarray(noisy.astype(np.uint8)).save(place / f"{index}.png")


def test_the_tutorial_ends_at_a_gate_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brief_doubts: None
) -> None:
    draw_pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tutorial" / "index.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in shell_lines(page)]
    stages = [command[1] for command in commands]
    assert stages == [
        *("doctor", "teach", "distill", "evaluate", "export", "attack", "attack", "bench", "gate")
    ]
    for program, *arguments in commands:
        assert program == "ardx"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{shlex.join(arguments)}\n{result.output}"
    assert "gate: passed" in result.output
    report = read_json(tmp_path / "report.json", Report, "a report")
    assert {replayed.name for replayed in report.sets} == {"pgd20", "pgd20-bpda"}
    assert (tmp_path / "runs" / "student" / "config.toml").is_file()
