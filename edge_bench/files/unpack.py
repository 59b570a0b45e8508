"""Open a bundle that somebody else wrote: nothing in it is believed before it is checked.

An archive may name files outside the folder it is unpacked to, links, one name twice, or sizes
that it does not have. So every entry is checked against rules and the manifest before the first
byte is written, and every byte against the manifest's hash while it is written. Members are
stored, not compressed, so a bundle can never grow beyond its own size.
"""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.errors import ArdxError, CapabilityError, InputError, first_line
from edge_bench.core.gate import Gate
from edge_bench.core.parse import json_of
from edge_bench.files.bundle import (
    BASELINE,
    BLOCK,
    ENGINES,
    LARGEST_MEMBER,
    MANIFEST,
    MODEL,
    MOST_MEMBERS,
    SETS,
    BundleManifest,
    BundleMember,
    is_bundle,
    is_safe,
)
from edge_bench.files.external_data import model_files
from edge_bench.files.store import from_json, identity, require_file

LARGEST_MANIFEST = 4 << 20
ENCRYPTED = 0x1
LONGEST_DIRECTORY = 2 << 20
"""Bytes of an archive's directory: 1,000 for each entry that a bundle may have."""


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """The files of a bundle in a temporary folder.

    Attributes:
        model: the ONNX file; its external data and fingerprint lie beside it.
        sets: the folder of its sets, None where it brings none.
        gate: its conditions, None where it has none.
        baseline: a report to compare with.
        engines: the folder of engines that were built ahead of time, with their records; program
            code, which nothing runs unasked.
    """

    model: Path
    sets: Path | None
    gate: Gate | None
    baseline: Path | None
    engines: Path | None = None


@contextmanager
def unpacked(bundle: Path) -> Iterator[Unpacked]:
    """Unpack a bundle for as long as the block runs; errors name the bundle, not the folder.

    Raises:
        InputError: no bundle, a torn or changed one, or one with entries that it must not have.
        CapabilityError: no room for it.
    """
    require_file(bundle, "a bundle of ardx bundle")
    with tempfile.TemporaryDirectory(prefix="ardx-") as name:
        folder = Path(name)
        try:
            manifest = _extract(bundle, folder)
            yield _found(bundle, folder, manifest)
        except ArdxError as error:
            # The same error: kinds of it are made of more than their text.
            error.args = (str(error).replace(f"{folder}/", f"{bundle}: "),)
            raise


def artifact_sha256(path: Path) -> str:
    """The sha256 by which reports name an artefact: of the file, or of the model in a bundle.

    Raises:
        InputError: neither a whole model, an engine nor a bundle.
        CapabilityError: no room to unpack the bundle.
    """
    if is_bundle(path):
        with unpacked(path) as brought:
            return identity(model_files(brought.model))[0]
    return identity(model_files(path))[0]


def _extract(bundle: Path, folder: Path) -> BundleManifest:
    with _reading(bundle), _listed(bundle) as archive:
        entries = _entries(bundle, archive)
        manifest = _manifest(bundle, archive, entries)
        _check_members(bundle, entries, manifest)
        total = sum(member.size_bytes for member in manifest.members.values())
        free = shutil.disk_usage(folder).free
        if total > free:
            raise CapabilityError(
                f"{bundle}: unpacks to {total} bytes, but {folder.parent} has {free} left; free "
                "space there, or name another place by the variable TMPDIR"
            )
        for name, member in sorted(manifest.members.items()):
            _extract_member(bundle, archive, entries[name], member, folder / name)
    return manifest


class _OfABundle(io.BufferedReader):
    """A file whose directory of entries is within bounds.

    Which bytes are the directory, zipfile finds by the archive's end, the one of 64 bits or the
    comment behind them; it reads them at once, and makes an object of each entry there.
    """

    is_listed = False

    def __init__(self, bundle: Path) -> None:
        super().__init__(io.FileIO(bundle))
        self.bundle = bundle

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.is_listed and size is not None and size > LONGEST_DIRECTORY:
            raise _refused(
                self.bundle,
                f"its directory has {size} bytes: more than {MOST_MEMBERS} entries, or names too "
                "long",
            )
        return super().read(size)


@contextmanager
def _listed(bundle: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, once its directory has been read."""
    with _OfABundle(bundle) as file, zipfile.ZipFile(file) as archive:
        file.is_listed = True
        yield archive


def _entries(bundle: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by name, each plain, stored, and of a size that can be true."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise _refused(bundle, f"holds {len(infos)} entries, above {MOST_MEMBERS}")
    entries: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    for info in infos:
        # zipfile cuts a name at a NUL; what was cut off is no name of ours.
        name = info.orig_filename
        if name != info.filename or not is_safe(name):
            raise _refused(bundle, f"the name {name!r} leaves its folder, or is none of a bundle")
        # Two names that differ in case alone are one file on some systems.
        if name.casefold() in folded:
            raise _refused(bundle, f"{name} is there twice")
        folded.add(name.casefold())
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _refused(bundle, f"{name} is a link or another thing that is no plain file")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED:
            raise _refused(bundle, f"{name} is compressed or encrypted, as no member of a bundle")
        if info.compress_size != info.file_size or info.file_size > LARGEST_MEMBER:
            raise _refused(bundle, f"{name} claims {info.file_size} bytes, which cannot be")
        entries[name] = info
    for name in entries:
        parts = name.split("/")
        if any("/".join(parts[:end]).casefold() in folded for end in range(1, len(parts))):
            raise _refused(bundle, f"{name} lies below a member that is a file")
    # Entries that share their bytes would unpack to more than the archive has.
    if sum(info.file_size for info in infos) > bundle.stat().st_size:
        raise _refused(bundle, "its members claim more bytes than it has")
    return entries


def _manifest(
    bundle: Path, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]
) -> BundleManifest:
    if MANIFEST not in entries:
        raise InputError(
            f"{bundle}: a zip archive without {MANIFEST}, so no bundle; make one: ardx bundle"
        )
    if entries[MANIFEST].file_size > LARGEST_MANIFEST:
        raise _refused(bundle, f"{MANIFEST} is longer than that of any bundle")
    data = json_of(archive.read(entries[MANIFEST]))
    return from_json(data, BundleManifest, str(bundle), "a bundle")


def _check_members(
    bundle: Path, entries: dict[str, zipfile.ZipInfo], manifest: BundleManifest
) -> None:
    """Refuse a member without a line in the manifest, a line without one, and a wrong size."""
    there = entries.keys() - {MANIFEST}
    if extra := sorted(there - manifest.members.keys()):
        raise _refused(bundle, f"{extra[0]} is not in its manifest")
    if missing := sorted(manifest.members.keys() - there):
        raise _refused(bundle, f"{missing[0]} is missing")
    for name, member in manifest.members.items():
        if entries[name].file_size != member.size_bytes:
            raise _refused(
                bundle,
                f"{name} has {entries[name].file_size} bytes, the manifest says "
                f"{member.size_bytes}",
            )


def _extract_member(
    bundle: Path,
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    member: BundleMember,
    path: Path,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(info) as source, path.open("xb") as target:
        while block := source.read(BLOCK):
            digest.update(block)
            target.write(block)
    if digest.hexdigest() != member.sha256:
        raise _refused(bundle, f"the sha256 of {info.filename} is not the manifest's")


def _found(bundle: Path, folder: Path, manifest: BundleManifest) -> Unpacked:
    model = manifest.model
    if model not in manifest.members or not model.startswith(f"{MODEL}/"):
        raise _refused(bundle, f"its model {model!r} is missing")
    # The folder held nothing before, so what the model names beside it is a member or not there.
    model_files(folder / model)
    baseline = folder / BASELINE
    drop = manifest.gate.max_robust_drop if manifest.gate else None
    if (drop is None) == baseline.is_file():
        raise _refused(bundle, f"of {BASELINE} and a gate on the drop it has but one")
    return Unpacked(
        model=folder / model,
        sets=folder / SETS if (folder / SETS).is_dir() else None,
        gate=manifest.gate,
        baseline=baseline if baseline.is_file() else None,
        engines=folder / ENGINES if (folder / ENGINES).is_dir() else None,
    )


def _refused(bundle: Path, why: str) -> InputError:
    return InputError(f"{bundle}: not used, since {why}; copy the bundle again or pack it anew")


@contextmanager
def _reading(bundle: Path) -> Iterator[None]:
    """A damaged archive ends as one of many exceptions; make it one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to where a damaged directory points
            raise
        raise _unreadable(bundle, error) from None
    except (
        zipfile.BadZipFile,
        EOFError,
        ValueError,  # a seek before the beginning, or a manifest that is not JSON
        struct.error,
        NotImplementedError,  # a version of zip that is not known
        RuntimeError,
    ) as error:
        raise _unreadable(bundle, error) from None


def _unreadable(bundle: Path, error: BaseException) -> InputError:
    return InputError(
        f"{bundle}: not a readable bundle ({first_line(error)}); copy it again or pack it anew"
    )
