"""The GPU hour keeps its time, and its data whole. `.ci/run` does all of it in miniature."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ard.data.splits import Dataset
from benchmarks.gpu import pack
from benchmarks.gpu.context import SMALL
from benchmarks.gpu.run import main
from benchmarks.gpu.steps import STEPS, loss_differences
from benchmarks.methods.passes import noise
from edge_bench.core.errors import InputError


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return noise(SMALL)


def test_what_is_packed_comes_back_to_the_bit(dataset: Dataset, tmp_path: Path) -> None:
    pack.write(dataset, tmp_path / "packed")
    found = pack.read(tmp_path / "packed")
    for kind in ("train", "test"):
        ours, theirs = getattr(found, kind), getattr(dataset, kind)
        assert (ours.images == theirs.images).all()
        assert (ours.labels == theirs.labels).all()


def test_smooth_pictures_pack_smaller_as_differences(tmp_path: Path) -> None:
    ramp = np.arange(0, 256, 8, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 4, (50, 3, 32, 32), dtype=np.uint8)
    images = ramp + noise
    assert (pack.unpacked(pack.packed(images)) == images).all()
    sizes = []
    for name, content in (("plain", images), ("packed", pack.packed(images))):
        np.savez_compressed(tmp_path / name, content)
        sizes.append((tmp_path / f"{name}.npz").stat().st_size)
    assert sizes[1] < 0.9 * sizes[0]


def test_a_damaged_or_missing_part_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack.write(dataset, folder)
    part = folder / "train-0.npz"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(InputError, match="missing, or not the part"):
        pack.read(folder)
    part.unlink()
    with pytest.raises(InputError, match="missing, or not the part"):
        pack.read(folder)
    with pytest.raises(InputError, match=r"expected parts\.json"):
        pack.read(tmp_path)


def test_losses_agree_with_float64() -> None:
    found = dict(loss_differences())
    assert len(found) > 8
    assert max(found.values()) < 1e-4


def test_a_step_that_has_no_time_left_is_said_and_not_begun(tmp_path: Path) -> None:
    lines = tmp_path / "gpu.jsonl"
    main(dry_run=True, minutes=0.001, lines=lines, work=tmp_path / "work")
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in found] == list(STEPS)
    assert all(line["skipped"].startswith("0.0 of ") for line in found)


def test_a_step_is_stopped_when_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, "crafting", replace(STEPS["crafting"], least_minutes=0.0))
    lines = tmp_path / "gpu.jsonl"
    # A second does for no step's imports.
    main(dry_run=True, minutes=1 / 60, lines=lines, work=tmp_path, only=["crafting"])
    (found,) = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert found["stopped"] is True
    assert 1 <= found["seconds"] < 10


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data and --teacher: expected both, or --dry-run"):
        main()
    with pytest.raises(InputError, match="--only nothing: expected one of correctness"):
        main(dry_run=True, only=["nothing"])
