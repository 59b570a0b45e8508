"""The wheel: the same bytes whenever it is built, and whole outside of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("ard", "deploy", "edge_bench", "pyproject.toml", "README.md")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
SET_BY_MAKE = {"SOURCE_DATE_EPOCH": "1700000000"}


def built(folder: Path, at: int) -> Path:
    """The wheel of a copy of the sources whose files were last changed at `at`."""
    source, out = folder / "source", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copyfile(path, source / name)
    for path in source.rglob("*"):
        os.utime(path, (at, at))
    words = [sys.executable, "-c", BUILD, str(out)]
    environment = os.environ | SET_BY_MAKE
    done = subprocess.run(
        words, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return built(folder / "a", 1_600_000_000), built(folder / "b", 1_650_000_000)


def test_two_builds_are_the_same_bytes(wheels: tuple[Path, Path]) -> None:
    first, second = wheels
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_it_works_outside_of_the_checkout(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(site)

    def said(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words],
            cwd=empty,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    code = (
        "import ard.learning.recipes as r, edge_bench as e; print(e.__file__); print(*r.presets())"
    )
    place, presets = said("-c", code).splitlines()
    assert place.startswith(str(site))
    assert set(presets.split()) == {p.stem for p in (ROOT / "ard" / "presets").glob("*.toml")}
    assert "bench" in said("-m", "edge_bench", "--help")
    files = {str(p.relative_to(site)) for p in site.rglob("*.py")}
    ours = {str(p.relative_to(ROOT)) for n in PARTS[:3] for p in (ROOT / n).rglob("*.py")}
    assert files == ours
