"""A model that went the way from weights to a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import SmallModels
from .typed import QUICK_BENCH, ardx


@pytest.fixture(autouse=True)
def doubts(brief_doubts: None) -> None:
    """Every evaluation by a command here is followed by short ones."""


@pytest.fixture(scope="package")
def shipped(small_models: SmallModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with student.onnx, student-int8.onnx, sets/ and report.json, made by commands."""
    folder = tmp_path_factory.mktemp("shipped")
    weights = small_models.student.weights
    ardx("export", weights, "--out", folder / "student.onnx")
    ardx("export", weights, "--int8", "--target", "arm", "--out", folder / "student-int8.onnx")
    for name in ("pgd3", "cw3"):
        ardx("attack", weights, "--attack", name, "--out", folder / "sets" / name)
    bench = ("--sets", folder / "sets", "--device", "local", "--backend", "ort", *QUICK_BENCH)
    ardx("bench", folder / "student.onnx", *bench, "--out", folder / "report.json")
    return folder
