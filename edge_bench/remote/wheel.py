"""This package alone as a wheel: what a board gets to run, by PYTHONPATH or by pip."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from edge_bench.backends.packages import BASE
from edge_bench.backends.registry import BACKENDS
from edge_bench.core.version import __version__
from edge_bench.files.bundle import add_text

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGE = "edge_bench"
DISTRIBUTION = "ardx_edge_bench"
FILE_NAME = f"{DISTRIBUTION}-{__version__}-py3-none-any.whl"
INFO = f"{DISTRIBUTION}-{__version__}.dist-info"


def write_wheel(folder: Path) -> Path:
    """Write the wheel into a folder and return its path; the same sources give the same bytes.

    The format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    path = folder / FILE_NAME
    files = dict(_sources(resources.files(PACKAGE), PACKAGE))
    files[f"{INFO}/METADATA"] = _metadata()
    files[f"{INFO}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: ardx {__version__}\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = []
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            member = add_text(archive, name, files[name])
            digest = base64.urlsafe_b64encode(bytes.fromhex(member.sha256)).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{member.size_bytes}\n")
        add_text(archive, f"{INFO}/RECORD", "".join([*record, f"{INFO}/RECORD,,\n"]))
    return path


def _sources(folder: Traversable, name: str) -> Iterator[tuple[str, str]]:
    """The Python files of a package and the packages below it, wherever it is installed."""
    for entry in folder.iterdir():
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            yield from _sources(entry, path)
        elif entry.name.endswith(".py"):
            yield path, entry.read_text(encoding="utf-8")


def _metadata() -> str:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {DISTRIBUTION.replace('_', '-')}",
        f"Version: {__version__}",
        "Summary: The part of ardx that runs on a device.",
        "Requires-Python: >=3.10",
        *(f"Requires-Dist: {package.requirement}" for package in BASE),
    ]
    for extra, packages in {r.extra: r.packages for r in BACKENDS.values() if r.extra}.items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {each.requirement}; extra == '{extra}'" for each in packages]
    return "\n".join(lines) + "\n"
