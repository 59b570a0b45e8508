"""What --tensorboard writes, read back by TensorBoard's own reader."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ard.data.splits import Dataset
from ard.learning.learn import learn
from ard.learning.scalars import FOLDER
from edge_bench.core.errors import CapabilityError

from ..conftest import small_config


def values(out: Path, tag: str) -> list[float]:
    reader = EventAccumulator(str(out / FOLDER))
    reader.Reload()
    return [event.value for event in reader.Scalars(tag)]


def test_tensorboard_shows_what_the_metrics_say(digits: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=2, train_fraction=0.2)
    learn(config, digits, None, tmp_path / "teacher.safetensors", tensorboard=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert values(tmp_path, "loss") == pytest.approx([line["loss"] for line in lines])
    robust = [line["validation"]["robust_accuracy"] for line in lines]
    assert values(tmp_path, "validation/robust_accuracy") == pytest.approx(robust)
    assert values(tmp_path, "terms/ce") == pytest.approx([line["terms"]["ce"] for line in lines])


def test_nothing_is_written_unless_asked_for(digits: Dataset, tmp_path: Path) -> None:
    config = small_config(epochs=1, train_fraction=0.2)
    learn(config, digits, None, tmp_path / "teacher.safetensors")
    assert not (tmp_path / FOLDER).exists()


def test_a_missing_tensorboard_is_said_with_its_remedy(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = small_config(epochs=1, train_fraction=0.2)
    with pytest.raises(CapabilityError, match=r"ardx\[tensorboard\]"):
        learn(config, digits, None, tmp_path / "teacher.safetensors", tensorboard=True)
    assert not any(tmp_path.iterdir())
