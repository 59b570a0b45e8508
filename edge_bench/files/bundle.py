"""One file with an artefact and all that its benchmark needs: `NAME.ardx`, packed here.

A zip archive of stored members: what it unpacks to is never larger than itself, and its bytes do
not depend on a compressor's version. Times and modes are fixed and members sorted, so that the
same files give the same bytes. The manifest comes last, since it holds the hashes of the rest:

    baseline.json       a report to compare with, where the gate has --max-robust-drop
    model/              the ONNX file, its external data and its fingerprint
    requirements.lock   the distributions of this machine that a device needs, with versions
    sbom.cdx.json       these and what they need in turn, as CycloneDX has it
    sets/NAME/          the adversarial sets
    manifest.json       a BundleManifest
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import ClassVar

from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format
from edge_bench.core.gate import Gate
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.version import __version__
from edge_bench.files.external_data import model_files
from edge_bench.files.fingerprint import fingerprint_path, read_fingerprint
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.sbom import sbom
from edge_bench.files.seals.graph import require_as_sealed
from edge_bench.files.sets import ARRAYS, open_sets
from edge_bench.files.sets import MANIFEST as SET_MANIFEST
from edge_bench.files.store import (
    atomic_file,
    identity,
    refuse_existing_file,
    to_json,
)

MANIFEST = "manifest.json"
LOCK = "requirements.lock"
SBOM = "sbom.cdx.json"
BASELINE = "baseline.json"
MODEL, SETS, ENGINES = "model", "sets", "engines"
REQUIREMENTS = (("numpy",), ("typer",), ("psutil",), ("onnxruntime", "onnxruntime-gpu"))
"""Distributions that a device needs; of several names in one entry, the first that is here."""
ENGINE_REQUIREMENTS = (
    ("polygraphy",),
    ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu12-libs"),
    ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
)
"""The same of one that is to run an engine, which its builder's version alone can."""
BLOCK = 1 << 20
# The oldest time that a zip archive can tell.
EPOCH = (1980, 1, 1, 0, 0, 0)
UNIX = 3
PLAIN_FILE = (stat.S_IFREG | 0o644) << 16
# No separators, drives, hidden files or control characters, on any system.
PART = re.compile(r"[\w+][\w .,+()=@-]*")
MOST_MEMBERS = 2000
LARGEST_MEMBER = 64 << 30


@dataclass(frozen=True, kw_only=True)
class BundleMember:
    """What the manifest says of one file."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class BundleManifest:
    """What a bundle holds; `gate` is None where nothing was asked."""

    FORMAT: ClassVar = Format(
        name="a bundle",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(ardx="0.2.0", what="max_divergence in its gate"),
            Change(ardx="0.2.0", what="content_sha256: of all the rest; the member sbom.cdx.json"),
            Change(ardx="0.2.0", what="max_path_gap in its gate"),
        ),
        sealed_from=3,
        anew="copy the bundle again or pack it anew",
    )

    schema_version: int = FORMAT.version
    ardx_version: str
    model: str
    gate: Gate | None
    members: dict[str, BundleMember]


def is_bundle(path: Path) -> bool:
    """Is this a bundle rather than a model?"""
    return kind_of(path) is Kind.BUNDLE


def is_safe(name: str) -> bool:
    """Is this member's name a plain relative path that stays below the folder it is put in?"""
    parts = name.split("/")
    return all(PART.fullmatch(part) and not part.endswith((".", " ")) for part in parts)


def pack(
    model: Path,
    out: Path,
    *,
    sets: Path | None,
    gate: Gate | None,
    baseline: Path | None,
    engines: Path | None = None,
    force: bool,
    report_progress: ProgressCallback = no_progress,
    seal: Callable[[Path], None] | None = None,
) -> BundleManifest:
    """Check the parts and write them into the bundle `out`, whole or not at all.

    `baseline` is a report, or a baseline, that the caller has read.
    `engines` is a folder of engines that were built of `model` ahead of time, and their records.
    `seal` is given the finished file before it takes the place of `out`; where it raises, nothing
    is written.

    Raises:
        InputError: a part is missing or damaged, or does not belong to the others.
    """
    refuse_existing_file(out, force)
    if ((gate or Gate()).max_robust_drop is None) != (baseline is None):
        raise InputError("--baseline and --max-robust-drop: expected both or neither")
    files = _model_members(model) | _set_members(sets)
    if engines is not None:
        files |= {f"{ENGINES}/{file.name}": file for file in engines.iterdir()}
    if baseline is not None:
        files[BASELINE] = baseline
    _check_files(files, model)
    lock = lock_file(with_engines=engines is not None)
    needed = [line.partition("==")[0] for line in lock.splitlines()]
    texts = {LOCK: lock, SBOM: sbom(needed, identity(model_files(model))[0], model.name)}
    members: dict[str, BundleMember] = {}
    with atomic_file(out, force) as partial:
        with zipfile.ZipFile(partial, "w") as archive:
            for name in sorted([*files, *texts]):
                members[name] = (
                    _add_file(archive, name, files[name])
                    if name in files
                    else add_text(archive, name, texts[name])
                )
                report_progress(len(members), len(files) + len(texts), "")
            manifest = BundleManifest(
                ardx_version=__version__,
                model=f"{MODEL}/{model.name}",
                gate=None if gate == Gate() else gate,
                members=members,
            )
            add_text(archive, MANIFEST, to_json(manifest) + "\n")
        if seal is not None:
            seal(partial)
    return manifest


def _check_files(files: dict[str, Path], model: Path) -> None:
    """Refuse what `bench` would refuse, and a link that would bring along what nobody named."""
    count = len(files) + len((LOCK, SBOM, MANIFEST))
    if count > MOST_MEMBERS:
        raise InputError(
            f"a bundle holds at most {MOST_MEMBERS} files, came {count}, of which a set "
            f"has {len(ARRAYS) + 1}; pack fewer sets"
        )
    beside_model = Path(os.path.realpath(model)).parent
    folded: dict[str, Path] = {}
    for name, file in files.items():
        if not is_safe(name):
            raise InputError(
                f"{file}: a bundle holds names of letters, digits and ' .,+()=@-_' that do not "
                "begin with a dot; rename it"
            )
        if (other := folded.setdefault(name.casefold(), file)) is not file:
            raise InputError(
                f"{file} and {other}: a bundle holds no two names that differ in upper and lower "
                "case alone, since some systems take them for one file; rename one of them"
            )
        found, folders = Path(os.path.realpath(file)), [Path(os.path.realpath(file.parent))]
        if name.startswith(f"{MODEL}/"):
            folders.append(beside_model)
        if file not in (model, files.get(BASELINE)) and not any(
            found.is_relative_to(folder) for folder in folders
        ):
            raise InputError(
                f"{file}: a link to {found}, outside of its folder, where nothing to be packed is "
                "looked for; put the file itself there"
            )


def lock_file(*, with_engines: bool = False) -> str:
    """The versions here of what a device needs, as pip reads them; what is not here is left out."""
    lines = []
    for names in (*REQUIREMENTS, *(ENGINE_REQUIREMENTS if with_engines else ())):
        for name in names:
            try:
                lines.append(f"{name}=={metadata.version(name)}\n")
            except metadata.PackageNotFoundError:
                continue
            break
    return "".join(sorted(lines))


def _model_members(model: Path) -> dict[str, Path]:
    """The ONNX file, the files of its external data, and its fingerprint where there is one."""
    if kind_of(model) is Kind.ENGINE:
        raise InputError(
            f"{model}: is an engine of TensorRT, program code for one kind of GPU, which no bundle "
            "has as its model; give the ONNX file that it was built of (--for packs engines beside "
            "it), or run ardx bench on the engine where it lies"
        )
    files = model_files(model)
    require_as_sealed(model)
    members: dict[str, Path] = {}
    for file in files:
        members[str(PurePosixPath(MODEL, file.relative_to(model.parent).as_posix()))] = file
    marks = fingerprint_path(model)
    if marks.exists():
        read_fingerprint(marks, identity(files)[0])
        members[f"{MODEL}/{marks.name}"] = marks
    return members


def _set_members(sets: Path | None) -> dict[str, Path]:
    """The files of each set, after all the checks that a replay makes."""
    if sets is None:
        return {}
    return {
        f"{SETS}/{opened.name}/{file}": opened.path / file
        for opened in open_sets(sets)
        for file in (SET_MANIFEST, *opened.manifest.arrays)
    }


def _add_file(archive: zipfile.ZipFile, name: str, file: Path) -> BundleMember:
    """Stream a file into the archive; the hash is of the bytes that went there."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as source:
        info = _info(name, file.stat().st_size)
        with archive.open(info, "w") as target:
            while block := source.read(BLOCK):
                digest.update(block)
                size += len(block)
                target.write(block)
    return BundleMember(sha256=digest.hexdigest(), size_bytes=size)


def add_text(archive: zipfile.ZipFile, name: str, text: str) -> BundleMember:
    """Store a text, with the same bytes whenever and wherever that happens."""
    content = text.encode()
    archive.writestr(_info(name, len(content)), content)
    return BundleMember(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def _info(name: str, size_bytes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system, info.external_attr = UNIX, PLAIN_FILE
    # Decides whether the entry has room for the sizes of a large file.
    info.file_size = size_bytes
    return info
