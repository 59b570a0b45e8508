"""How much of a board's disk ardx takes beyond numpy and onnxruntime."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.lines import ROOT
from benchmarks.speed.finding import Asked, Case, Finding, against

TITLE = "Size on the device"
SECONDS = 5.0
ABOUT = """Files of `pip install 'ardx[edge]'` in this environment without bytecode, of the
packages that it brings beyond numpy and onnxruntime with theirs; ardx's own as its wheel has
them."""
LEFT = """The command line's: typer brings rich with Pygments (4.6 MB, of which lexers are nearly
all), and from 0.29 on pydantic with its compiled core (7.4 MB). All are hard dependencies of
typer's, so no extra of ardx can leave them out. A board that counts megabytes installs
`'ardx[edge]' 'typer<0.29'`, with which ardx is tested as well. The rest would take another parser
of command lines, behind all commands."""

BAR_MB = 5.0
FLOOR = ("numpy", "onnxruntime")
PACKAGES = ("ard", "deploy", "edge_bench")
TOLD = 0.5
"""Packages from this many MB on are named."""


def cases(asked: Asked) -> dict[str, Case]:
    """One case, in either form."""
    return {"files of ardx[edge]": files}


def files() -> list[Finding]:
    """Megabytes of it all beside the floor's."""
    floor = closure(FLOOR)
    needed = [
        requirement.name
        for text in importlib.metadata.requires("ardx") or ()
        if _here(requirement := Requirement(text))
    ]
    sizes = {name: megabytes(name) for name in closure(needed) - floor}
    sizes["ardx"] = _own()
    under = sum(map(megabytes, floor))
    told = sorted(sizes.items(), key=lambda item: -item[1])
    note = ", ".join(f"{name} {size:.1f}" for name, size in told if size >= TOLD)
    total = under + sum(sizes.values())
    rival = "numpy and onnxruntime alone"
    return [against([total], [under], "more", rival=rival, bar=BAR_MB, unit="MB", note=note)]


def closure(names: Iterable[str]) -> set[str]:
    """The packages and all that they require here, without extras."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        found.add(name)
        requirements = map(Requirement, importlib.metadata.requires(name) or ())
        todo += [each.name for each in requirements if _here(each)]
    return found


def _here(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def megabytes(name: str) -> float:
    """Of the files that a package's own record lists, without bytecode."""
    listed = (file for file in importlib.metadata.files(name) or () if file.suffix != ".pyc")
    paths = [Path(str(file.locate())) for file in listed]
    return sum(path.stat().st_size for path in paths if path.exists()) / 1e6


def _own() -> float:
    """Of what the wheel has: an installation for work on it has no files of its own."""
    parts = (path for name in PACKAGES for path in (ROOT / name).rglob("*"))
    return sum(p.stat().st_size for p in parts if p.is_file() and p.suffix != ".pyc") / 1e6
