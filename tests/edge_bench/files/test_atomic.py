"""Files and folders are written whole or not at all, and over nothing that they should not."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edge_bench.core.errors import InputError
from edge_bench.files.store import (
    atomic_directory,
    atomic_file,
    refuse_existing_file,
)

Atomic = Callable[[Path, bool], AbstractContextManager[Path]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds nothing yet."""
    path = tmp_path / "here"
    path.mkdir()
    return path


def write_into(partial: Path, text: str) -> None:
    """Put text into what either kind of atomic block yields."""
    (partial / "content" if partial.is_dir() else partial).write_text(text, encoding="utf-8")


def write_half(block: AbstractContextManager[Path], error: type[BaseException]) -> None:
    with block as partial:
        write_into(partial, "half")
        raise error


def text_of(target: Path) -> str:
    return (target / "content" if target.is_dir() else target).read_text(encoding="utf-8")


def atomic_folder(path: Path, force: bool) -> AbstractContextManager[Path]:
    """`atomic_directory` for folders that are told by what `write_into` writes."""
    return atomic_directory(path, force, "content")


both = pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])


@both
def test_an_atomic_target_appears_when_the_block_ends(folder: Path, atomic: Atomic) -> None:
    with atomic(folder / "out.json", False) as partial:
        write_into(partial, "new")
        assert not (folder / "out.json").exists()
    assert text_of(folder / "out.json") == "new"
    assert [p.name for p in folder.iterdir()] == ["out.json"]


@both
def test_an_atomic_target_brings_its_parents(folder: Path, atomic: Atomic) -> None:
    with atomic(folder / "deep" / "er" / "out.json", False) as partial:
        write_into(partial, "new")
    assert text_of(folder / "deep" / "er" / "out.json") == "new"


@both
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_atomic_block_leaves_the_old_target_and_nothing_else(
    folder: Path, atomic: Atomic, error: type[BaseException]
) -> None:
    with atomic(folder / "out.json", False) as partial:
        write_into(partial, "old")
    with pytest.raises(error):
        write_half(atomic(folder / "out.json", True), error)
    assert text_of(folder / "out.json") == "old"
    assert [p.name for p in folder.iterdir()] == ["out.json"]


@both
def test_a_failed_atomic_block_leaves_no_target_where_there_was_none(
    folder: Path, atomic: Atomic
) -> None:
    with pytest.raises(RuntimeError):
        write_half(atomic(folder / "out.json", False), RuntimeError)
    assert list(folder.iterdir()) == []


@both
def test_a_block_that_lost_its_partial_leaves_the_old_target(folder: Path, atomic: Atomic) -> None:
    with atomic(folder / "out.json", False) as partial:
        write_into(partial, "old")
    with pytest.raises(FileNotFoundError), atomic(folder / "out.json", True) as partial:
        shutil.rmtree(partial, ignore_errors=True)
    assert text_of(folder / "out.json") == "old"
    assert [p.name for p in folder.iterdir()] == ["out.json"]


@both
def test_an_existing_target_is_not_overwritten_without_force(folder: Path, atomic: Atomic) -> None:
    with atomic(folder / "out.json", False) as partial:
        write_into(partial, "old")
    with pytest.raises(InputError, match=r"out\.json exists already; .*--force"):
        atomic(folder / "out.json", False).__enter__()
    assert text_of(folder / "out.json") == "old"


@both
@pytest.mark.parametrize("leads", [True, False], ids=["link", "dangling link"])
def test_a_link_is_there_too_and_force_replaces_it_and_not_what_it_leads_to(
    folder: Path, atomic: Atomic, leads: bool
) -> None:
    behind, out = folder / "behind.json", folder / "out.json"
    if leads:
        with atomic(behind, False) as partial:
            write_into(partial, "old")
    out.symlink_to(behind)
    with pytest.raises(InputError, match=r"out\.json exists already; .*--force"):
        atomic(out, False).__enter__()
    with atomic(out, True) as partial:
        write_into(partial, "new")
    assert text_of(out) == "new"
    assert not out.is_symlink()
    assert not leads or text_of(behind) == "old"
    names = ["behind.json", "out.json"] if leads else ["out.json"]
    assert sorted(p.name for p in folder.iterdir()) == names


@both
def test_an_existing_target_is_replaced_with_force(folder: Path, atomic: Atomic) -> None:
    for text in ("old", "new"):
        with atomic(folder / "out.json", True) as partial:
            write_into(partial, text)
    assert text_of(folder / "out.json") == "new"
    assert [p.name for p in folder.iterdir()] == ["out.json"]


def test_replacing_a_folder_drops_its_old_files(folder: Path) -> None:
    for name in ("content", "stale.npy"):
        (folder / "set").mkdir(exist_ok=True)
        (folder / "set" / name).write_text("old", encoding="utf-8")
    with atomic_folder(folder / "set", True) as partial:
        write_into(partial, "new")
    assert [p.name for p in (folder / "set").iterdir()] == ["content"]
    assert text_of(folder / "set") == "new"


def test_an_empty_folder_is_replaced_with_force(folder: Path) -> None:
    (folder / "set").mkdir()
    with atomic_folder(folder / "set", True) as partial:
        write_into(partial, "new")
    assert text_of(folder / "set") == "new"


@pytest.mark.parametrize("path", [".", ".."])
def test_the_working_directory_is_never_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder / "inner")
    with pytest.raises(InputError, match="expected the name of a folder for --out"):
        atomic_folder(Path(path), True).__enter__()


def test_a_folder_that_is_no_earlier_output_is_never_replaced(folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "home" / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(InputError, match=r"home: .*without content in it.*choose another --out"):
        atomic_folder(folder / "home", True).__enter__()
    assert (folder / "home" / "thesis.tex").read_text(encoding="utf-8") == "years"
    assert [p.name for p in folder.iterdir()] == ["home"]


def test_a_partial_file_keeps_the_suffix_that_writers_choose_a_format_by(folder: Path) -> None:
    with atomic_file(folder / "model.onnx", False) as partial:
        assert partial.suffix == ".onnx"
        partial.write_text("x", encoding="utf-8")


def test_a_folder_is_never_replaced_by_a_file(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "kept").write_text("kept", encoding="utf-8")
    with pytest.raises(InputError, match="expected the name of a file to write, found a folder"):
        atomic_file(folder / "out", True).__enter__()
    assert (folder / "out" / "kept").exists()


def test_a_file_is_never_replaced_by_a_folder(folder: Path) -> None:
    (folder / "out").write_text("kept", encoding="utf-8")
    with pytest.raises(InputError, match="expected a folder name for --out, found a file"):
        atomic_folder(folder / "out", True).__enter__()
    assert (folder / "out").read_text(encoding="utf-8") == "kept"


def test_a_pipe_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        pytest.raises(InputError, match="found a device, pipe or socket; name a file"),
        atomic_file(pipe, force=True) as partial,
    ):
        partial.write_text("new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("name", ["null", "full", "stdout"])
def test_a_device_is_no_file_to_write(name: str) -> None:
    # Only asked, never written: a fault here would take the device away from the machine.
    with pytest.raises(InputError, match=f"/dev/{name}: .* found a device, pipe or socket"):
        refuse_existing_file(Path("/dev") / name, force=True)


# --- what killed processes left ------------------------------------------------------------


def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    number = gone()
    stale = [f".q.partial-{number}.npz", f"..q.partial-{number}.partial-{number}.npz"]
    others = [
        f".q.partial-{os.getppid()}.npz",  # of one that runs
        f".q.partial-{number}.onnx",
        f".r.partial-{number}.npz",
        f"q.partial-{number}.npz",
    ]
    for name in (*stale, *others):
        (tmp_path / name).write_text("half")
    with atomic_file(tmp_path / "q.npz", force=False) as partial:
        partial.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "q.npz"])


def test_a_folder_that_a_killed_writer_set_aside_comes_back(tmp_path: Path) -> None:
    number = gone()
    for kind in ("partial", "retired"):
        (tmp_path / f".demo.d.{kind}-{number}").mkdir()
        (tmp_path / f".demo.d.{kind}-{number}" / "content").write_text(kind)
    with (
        pytest.raises(InputError, match="exists already"),
        atomic_directory(tmp_path / "demo.d", False, "content"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["demo.d"]
    assert (tmp_path / "demo.d" / "content").read_text() == "retired"


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    taken: list[tuple[int, int]] = []
    fsync, replace = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        fsync(handle)
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def noted_replace(path: Path, target: Path) -> Path:
        files = [path] if path.is_file() else list(path.iterdir())
        taken.extend((file.stat().st_size, synced.get(file.stat().st_ino, -1)) for file in files)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    with atomic_file(tmp_path / "a", force=False) as partial:
        partial.write_bytes(b"a file")
    with atomic_directory(tmp_path / "b", force=False, marker="c") as folder:
        (folder / "c").write_bytes(b"in a folder")
    assert taken == [(6, 6), (11, 11)]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def meanwhile() -> None:
        with atomic_file(path, force=False) as partial:
            partial.write_text("mine", encoding="utf-8")
            path.write_text("another's", encoding="utf-8")

    with pytest.raises(InputError, match="exists already"):
        meanwhile()
    assert [p.read_text(encoding="utf-8") for p in tmp_path.iterdir()] == ["another's"]
