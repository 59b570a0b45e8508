"""A bundle and its parts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.edge_bench.files.bundles.parts import mark

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which must be empty again in the end."""
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def model(make_model: MakeModel, clean: NDArray[np.uint8], weight: NDArray[np.float32]) -> Path:
    """The linear classifier with a fingerprint."""
    path = make_model("student.onnx")
    mark(path, clean, weight)
    return path


@pytest.fixture
def sets(make_set: MakeSet) -> Path:
    make_set("fgsm")
    return make_set("pgd").parent


@pytest.fixture
def bundle(invoke: Invoke, model: Path, sets: Path, tmp_path: Path) -> Path:
    """A bundle with two sets, a fingerprint and a gate that passes."""
    out = tmp_path / "student.ardx"
    packed = invoke("bundle", model, "--sets", sets, "--min-clean-accuracy", 0.8, "--out", out)
    assert packed[0] == 0, packed
    return out
