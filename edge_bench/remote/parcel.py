"""What travels to a board, and the name of the job that follows from it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback
from edge_bench.files.bundle import is_bundle, pack
from edge_bench.files.store import sha256_file
from edge_bench.files.unpack import Unpacked
from edge_bench.remote.layout import BUNDLE, JOB, WHEELS, Job
from edge_bench.remote.wheel import FILE_NAME, write_wheel

WHEEL_NAME = re.compile(r"[\w.+!-]+\.whl")


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A file here, and its hash."""

    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A job before it is on any board.

    Attributes:
        key: follows from all of `files`, and names the job's folder there.
        files: by name in that folder.
        wheels: those of --wheels, in the same way; None where that was not given. They change
            how the packages get there, not what runs, so the key is the same with and without.
    """

    key: str
    python: str
    files: dict[str, Shipped]
    wheels: dict[str, Shipped] | None


def make_parcel(
    folder: Path,
    model: Path,
    parts: Unpacked,
    job: Job,
    wheels: Path | None,
    report_progress: ProgressCallback,
) -> Parcel:
    """Put together what travels in a folder of the caller's; a bundle travels as it is.

    `parts` are those of `model`. A bundle whose sets were given beside it is packed anew.

    Raises:
        InputError: no model, sets that do not fit it, no wheels.
    """
    found = _wheels(wheels) if wheels else None
    bundle = model
    if not is_bundle(model) or (parts.sets and parts.sets.parent != parts.model.parent.parent):
        bundle = folder / BUNDLE
        pack(
            parts.model,
            bundle,
            sets=parts.sets,
            gate=None,
            baseline=None,
            engines=parts.engines,
            force=False,
            report_progress=report_progress,
        )
    (folder / JOB).write_text(job.to_text(), encoding="utf-8")
    paths = {BUNDLE: bundle, FILE_NAME: write_wheel(folder), JOB: folder / JOB}
    files = {name: _shipped(path) for name, path in paths.items()}
    text = "".join(f"{name} {file.sha256}\n" for name, file in sorted(files.items()))
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Parcel(key=key, python=job.python, files=files, wheels=found)


def _wheels(folder: Path) -> dict[str, Shipped]:
    paths = sorted(folder.glob("*.whl"))
    if not paths:
        raise InputError(
            f"--wheels {folder}: expected a folder with wheels (.whl) for the board, found none; "
            "fill it with pip download --only-binary=:all: --platform manylinux_2_28_aarch64 ..."
        )
    for path in paths:
        if not WHEEL_NAME.fullmatch(path.name):
            raise InputError(f"{path}: not the name of a wheel; rename it as it was published")
    return {f"{WHEELS}/{path.name}": _shipped(path) for path in paths}


def _shipped(path: Path) -> Shipped:
    return Shipped(path=path, sha256=sha256_file(path))
