"""The wheel of this package alone: what pip and PYTHONPATH make of it."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from edge_bench.backends.registry import BACKENDS
from edge_bench.remote.wheel import FILE_NAME, INFO, write_wheel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return write_wheel(tmp_path)


def test_the_same_sources_give_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert write_wheel(tmp_path / "other").read_bytes() == wheel.read_bytes()


def test_it_holds_this_package_and_a_record_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    sources = {str(p.relative_to(CHECKOUT)) for p in (CHECKOUT / "edge_bench").rglob("*.py")}
    assert {name for name in contents if not name.startswith(INFO)} == sources
    rows = list(csv.reader(io.StringIO(contents[f"{INFO}/RECORD"].decode())))
    assert {row[0] for row in rows} == set(contents)
    for name, digest, size in rows:
        if name != f"{INFO}/RECORD":
            hashed = urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).decode()
            assert (digest, int(size)) == (f"sha256={hashed.rstrip('=')}", len(contents[name]))


def test_its_requirements_are_those_of_the_distribution(wheel: Path) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    expected = set(project["dependencies"])
    for extra in {runtime.extra for runtime in BACKENDS.values() if runtime.extra}:
        # The wheel is for boards, which are no Macs, so it leaves that marker out.
        named = (r.partition(";")[0] for r in project["optional-dependencies"][extra])
        expected |= {f"{requirement}; extra == '{extra}'" for requirement in named}
    with zipfile.ZipFile(wheel) as archive:
        metadata = PathDistribution(zipfile.Path(archive, f"{INFO}/"))
        assert set(metadata.requires or ()) == expected
        assert metadata.metadata["Requires-Python"] == project["requires-python"].split(",")[0]
        assert re.fullmatch(r"ardx[-_]edge[-_]bench", metadata.metadata["Name"])


def test_it_runs_from_where_it_lies(wheel: Path) -> None:
    program = "import edge_bench.cli, edge_bench; print(edge_bench.__file__)"
    ended = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", program],
        env=os.environ | {"PYTHONPATH": str(wheel)},
        cwd=wheel.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.startswith(str(wheel)), ended.stderr


def test_pip_installs_it(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--disable-pip-version-check", "--no-compile", "--target", str(target)]
    ended = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    installed = {str(p.relative_to(target)) for p in target.rglob("*.py")}
    assert "edge_bench/remote/board.py" in installed
    assert (target / FILE_NAME.replace("-py3-none-any.whl", ".dist-info")).is_dir()
