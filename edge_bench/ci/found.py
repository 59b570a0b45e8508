"""What a project has that CI can gate on: the artefact, its sets, a report, a baseline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.errors import InputError
from edge_bench.core.spec import Report, SetManifest
from edge_bench.files.external_data import model_files
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.onnx_file import read_card
from edge_bench.files.report_file import read_report
from edge_bench.files.sets import MANIFEST
from edge_bench.files.store import identity, read_json
from edge_bench.policy.baseline import is_baseline

DEPTH = 4
MOST_BYTES = 64 * 2**20
"""A JSON file larger than this is left unread: nobody keeps such a report in a repository."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Paths relative to the project's folder.

    Attributes:
        artifact: the file to gate on.
        size_bytes: of it, with its weights.
        others: ONNX files that were passed over.
        sets: the set, or folder of sets; None without any.
        report: the newest report of the artefact, and where it lies; None without one.
        baseline: what changes can be counted from; None without one.
        has_lfs: files of the repository lie in Git LFS.
        inside: the folder within its git repository; `.` at the root, or without one.
        repository: the root of the git repository; None without one.
    """

    artifact: Path
    size_bytes: int
    others: tuple[Path, ...]
    sets: Path | None
    report: tuple[Path, Report] | None
    baseline: Path | None
    has_lfs: bool
    inside: Path
    repository: Path | None


def look_into(folder: Path) -> Found:
    """What lies in `folder` and below it.

    Raises:
        InputError: no such folder, or no ONNX file in it.
    """
    if not folder.is_dir():
        raise InputError(f"--dir {folder}: expected a folder, there is none; name the project's")
    files = sorted(_files(folder, DEPTH))
    models = [path for path in files if kind_of(path) is Kind.ONNX]
    if not models:
        raise InputError(
            f"--dir {folder}: expected an ONNX file in it, found none; write one with ardx export, "
            "or name the project's folder"
        )
    known = {path: identity(model_files(path)) for path in models}
    reports, baseline = _reports(folder, files)
    of_models = {sha256 for sha256, _ in known.values()}
    fitting = [found for found in reports if found[1].artifact.sha256 in of_models]
    newest = max(fitting, key=lambda found: found[1].created, default=None)
    artifact = next(
        (p for p in models if newest and known[p][0] == newest[1].artifact.sha256),
        min(models, key=lambda path: (not _is_int8(path), path)),
    )
    repository = repository_of(folder)
    attributes = [at / ".gitattributes" for at in {folder, repository or folder}]
    return Found(
        artifact=artifact.relative_to(folder),
        size_bytes=known[artifact][1],
        others=tuple(path.relative_to(folder) for path in models if path != artifact),
        sets=_sets(folder, files),
        report=newest and (newest[0].relative_to(folder), newest[1]),
        baseline=baseline,
        has_lfs=any(at.is_file() and b"filter=lfs" in at.read_bytes() for at in attributes),
        inside=folder.resolve().relative_to(repository) if repository else Path(),
        repository=repository,
    )


def repository_of(folder: Path) -> Path | None:
    """The root of the git repository that `folder` is in, where GitHub looks for workflows."""
    here = folder.resolve()
    return next((at for at in (here, *here.parents) if (at / ".git").exists()), None)


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Files, but none of hidden folders, of environments, or behind links."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_file():
                yield path
            elif depth and entry.is_dir(follow_symlinks=False) and _is_the_project_s(path):
                yield from _files(path, depth - 1)


def _is_the_project_s(folder: Path) -> bool:
    name = folder.name
    return not (name.startswith(".") or name == "node_modules" or (folder / "pyvenv.cfg").exists())


def _is_int8(path: Path) -> bool:
    with suppress(InputError):
        card = read_card(path)
        return card is not None and card.precision == "int8"
    return False


def _reports(folder: Path, files: list[Path]) -> tuple[list[tuple[Path, Report]], Path | None]:
    reports, baseline = [], None
    for path in files:
        if path.suffix != ".json" or path.name == MANIFEST or path.stat().st_size > MOST_BYTES:
            continue
        with suppress(InputError):
            if is_baseline(path):
                baseline = baseline or path.relative_to(folder)
            else:
                reports.append((path, read_report(path)))
    return reports, baseline


def _sets(folder: Path, files: list[Path]) -> Path | None:
    """The folder of the first set, so that sets which join it are replayed, too."""
    manifests = (path for path in files if path.name == MANIFEST)
    first = next((path.parent for path in manifests if _is_of_a_set(path)), None)
    if first is None:
        return None
    return (first if folder in (first, first.parent) else first.parent).relative_to(folder)


def _is_of_a_set(path: Path) -> bool:
    """Other things have a manifest.json, too, as the pages of an app."""
    with suppress(InputError):
        return read_json(path, SetManifest, "the manifest of a set").samples > 0
    return False
