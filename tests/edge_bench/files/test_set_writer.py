"""A set that is written batch by batch, stopped anywhere, ends as if it had never been stopped."""

from __future__ import annotations

import json
import random
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec, SetManifest
from edge_bench.files.set_writer import SetPlan, SetWriter
from edge_bench.files.sets import open_set

SAMPLES, BATCH = 25, 10
SHAPE = (3, 4, 5)


def plan(seed: int = 0, **made_from: str) -> SetPlan:
    spec = AttackSpec(name="fgsm", epsilon=8 / 255, step_size=None, steps=None, seed=seed)
    manifest = SetManifest(
        samples=SAMPLES,
        image_shape=SHAPE,
        classes=4,
        dataset="noise",
        attack=spec,
        threat="white-box",
        source_sha256="0",
        source_name="weights",
        on_grid=True,
        arrays={},
        versions={},
    )
    return SetPlan(manifest=manifest, batch_size=BATCH, made_from=made_from)


def batch(begin: int, size: int = BATCH) -> tuple[NDArray[Any], ...]:
    """Arrays that depend on where they begin alone."""
    rng = np.random.default_rng(begin)
    count = min(size, SAMPLES - begin)
    clean = rng.integers(8, 248, (count, *SHAPE), dtype=np.uint8)
    images = clean + rng.integers(0, 8, clean.shape, dtype=np.uint8)
    return images, clean, rng.integers(0, 4, count), rng.random(count) < 0.5


def write(out: Path, stop_at: int = SAMPLES, chosen: SetPlan | None = None, **more: bool) -> int:
    """Write a set, or stop with an exception; give the sample that it went on from."""
    chosen = chosen or plan()
    with SetWriter(out, chosen, **more) as writer:
        begun = writer.done
        for begin in range(begun, SAMPLES, chosen.batch_size):
            if begin >= stop_at:
                raise RuntimeError("stopped")
            writer.append(*batch(begin, chosen.batch_size))
        writer.finish()
    return begun


def stop(out: Path, at: int, chosen: SetPlan | None = None, **more: bool) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        write(out, at, chosen, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def progress(out: Path) -> Path:
    return out.parent / f".{out.name}.partial" / "progress.json"


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of a set that was never stopped."""
    write(tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_a_set_holds_what_was_appended(tmp_path: Path) -> None:
    write(tmp_path / "s")
    opened = open_set(tmp_path / "s")
    parts = zip(batch(0), batch(10), batch(20), strict=True)
    expected = [np.concatenate(arrays) for arrays in parts]
    for found, wanted in zip(
        (opened.images, opened.clean, opened.labels, opened.source_success), expected, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("at", [10, 20])
def test_a_stopped_set_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes], at: int
) -> None:
    stop(tmp_path / "s", at)
    assert not (tmp_path / "s").exists()
    assert write(tmp_path / "s") == at
    assert contents(tmp_path / "s") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "whole"]


def test_what_was_written_but_not_counted_is_cut_off(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    stop(tmp_path / "s", 10)
    for path in (progress(tmp_path / "s").parent / "set").iterdir():
        with path.open("ab") as file:
            file.write(b"half a batch")
    assert write(tmp_path / "s") == 10
    assert contents(tmp_path / "s") == whole


def test_a_complete_set_that_had_not_taken_its_place_does_so(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    with SetWriter(tmp_path / "s", plan()) as writer:
        for begin in range(0, SAMPLES, BATCH):
            writer.append(*batch(begin))
    assert write(tmp_path / "s") == SAMPLES
    assert contents(tmp_path / "s") == whole


@pytest.mark.parametrize(
    "other",
    [
        plan(seed=1),
        plan(images="others"),
        replace(plan(), batch_size=5),
        replace(plan(), manifest=replace(plan().manifest, source_sha256="1")),
        replace(plan(), manifest=replace(plan().manifest, threat="bpda", surrogate_sha256="2")),
        replace(plan(), manifest=replace(plan().manifest, versions={"torch": "3"})),
    ],
)
def test_another_plan_starts_over(tmp_path: Path, other: SetPlan) -> None:
    stop(tmp_path / "s", 20, other)
    with SetWriter(tmp_path / "s", plan()) as writer:
        assert writer.done == 0
        assert "started over" in writer.begun


def test_more_samples_start_over(tmp_path: Path) -> None:
    stop(tmp_path / "s", 10)
    larger = replace(plan(), manifest=replace(plan().manifest, samples=SAMPLES + 1))
    with SetWriter(tmp_path / "s", larger) as writer:
        assert writer.done == 0


@pytest.mark.parametrize("damage", ["torn", "missing", "short", "lies", "beyond", "newer"])
def test_a_damaged_partial_set_starts_over(
    tmp_path: Path, whole: dict[str, bytes], damage: str
) -> None:
    stop(tmp_path / "s", 20)
    path = progress(tmp_path / "s")
    data = json.loads(path.read_text())
    images = path.parent / "set" / "images.npy"
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "missing":
        images.unlink()
    elif damage == "short":
        images.write_bytes(images.read_bytes()[:-1])
    else:
        changed = {"lies": {"done": 15}, "beyond": {"done": 30}, "newer": {"schema_version": 9}}
        path.write_text(json.dumps(data | changed[damage]))
    assert write(tmp_path / "s") == 0
    assert contents(tmp_path / "s") == whole


def test_two_writers_of_one_set_are_refused(tmp_path: Path, whole: dict[str, bytes]) -> None:
    with SetWriter(tmp_path / "s", plan()) as first:
        first.append(*batch(0))
        with pytest.raises(InputError, match="another process is writing this set"):
            write(tmp_path / "s")
        first.append(*batch(10))
        first.append(*batch(20))
        first.finish()
    assert contents(tmp_path / "s") == whole


def test_force_keeps_the_older_set_until_the_new_one_is_complete(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    write(tmp_path / "s", chosen=plan(seed=1))
    before = contents(tmp_path / "s")
    with pytest.raises(InputError, match="--force"):
        write(tmp_path / "s")
    stop(tmp_path / "s", 10, force=True)
    assert contents(tmp_path / "s") == before
    assert write(tmp_path / "s", force=True) == 10
    assert contents(tmp_path / "s") == whole


def test_a_kill_between_the_two_renames_of_force_loses_no_set(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    write(tmp_path / "s", chosen=plan(seed=1))
    before = contents(tmp_path / "s")
    stop(tmp_path / "s", 20, force=True)
    (tmp_path / "s").rename(progress(tmp_path / "s").parent / "retired")
    stop(tmp_path / "s", 20, force=True)
    assert contents(tmp_path / "s") == before
    write(tmp_path / "s", force=True)
    assert contents(tmp_path / "s") == whole


def test_a_kill_after_both_renames_leaves_nothing_in_the_way(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    write(tmp_path / "s", chosen=plan(seed=1))
    stop(tmp_path / "s", 20, force=True)
    shutil.copytree(tmp_path / "s", progress(tmp_path / "s").parent / "retired")
    assert write(tmp_path / "s", force=True) == 20
    assert contents(tmp_path / "s") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "whole"]


def test_a_place_where_nothing_may_be_written_is_named(tmp_path: Path) -> None:
    # A file where the hidden folder would be: nobody, not even root, can write into it.
    (tmp_path / ".s.partial").write_text("")
    with pytest.raises(OSError, match="exists") as caught:
        write(tmp_path / "s")
    assert caught.value.filename == str(tmp_path / "s")


def test_force_replaces_no_folder_that_is_no_set(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="no earlier output"):
        write(tmp_path / "s", force=True)
    assert contents(tmp_path / "s") == {"thesis.tex": b"years of work"}


def test_what_appeared_meanwhile_is_not_replaced_and_the_work_is_kept(tmp_path: Path) -> None:
    with SetWriter(tmp_path / "s", plan()) as writer:
        for begin in range(0, SAMPLES, BATCH):
            writer.append(*batch(begin))
        (tmp_path / "s").mkdir()
        with pytest.raises(InputError, match="exists already"):
            writer.finish()
    (tmp_path / "s").rmdir()
    assert write(tmp_path / "s") == SAMPLES


def test_a_full_disk_names_the_array_and_keeps_what_was_counted(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for two of the three batches.
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 20 * 60 + 30, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write(tmp_path / "s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "s" / "images.npy")
    assert write(tmp_path / "s") == 20
    assert contents(tmp_path / "s") == whole


def test_a_disk_full_from_the_start_leaves_nothing(tmp_path: Path) -> None:
    stop(tmp_path / "s", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/.."])
def test_a_target_without_a_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError):
        write(Path(name), force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "name", ["images.npy", "clean.npy", "labels.npy", "source_success.npy", "progress.json"]
)
def test_flips_in_a_half_made_set_are_not_vouched_for(
    name: str, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    draw = random.Random(0)
    for _ in range(12):
        out = tmp_path / "flipped"
        stop(out, 2 * BATCH)
        path = progress(out) if name == "progress.json" else progress(out).parent / "set" / name
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        begun = write(out)
        assert contents(out) == whole
        assert begun == 0 or name == "progress.json"
        shutil.rmtree(out)
