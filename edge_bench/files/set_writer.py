"""Write an adversarial set batch by batch, so that an interrupted command goes on where it was.

Beside the target lies a hidden folder, `.NAME.partial`, until the set is complete:

    lock            held by the process that writes; the kernel releases it when the process dies
    progress.json   what the set will be, and how many samples are on the disk
    set/            the arrays, which become the target in one rename
    retired/        the set that --force replaces, between two renames

A batch is written and flushed before it is counted, and what lies behind the count is cut off when
the command runs again, so a killed run ends with the same bytes as one that was left alone. The
count comes with hashes of what was written: samples that are others by now are made again.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format
from edge_bench.core.spec import SetManifest
from edge_bench.files.locks import hold
from edge_bench.files.sets import MANIFEST, layout_of
from edge_bench.files.store import read_json, refuse_folder, sync_folder, write_json

PROGRESS = "progress.json"
LOCK = "lock"


@dataclass(frozen=True, kw_only=True)
class SetPlan:
    """Everything that decides the bytes of a set: two runs with one plan write the same set.

    Attributes:
        manifest: what the set will say of itself; its `arrays` are still empty.
        batch_size: samples per batch; random draws follow it.
        made_from: what else decides the bytes, such as the identity of the clean images.
    """

    manifest: SetManifest
    batch_size: int
    made_from: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class SetProgress:
    """How far the set of `plan` is: `done` samples on the disk, `fooled` of them successes.

    `arrays` holds the sha256 of each array's file up to there; of an older ardx, none.
    """

    FORMAT: ClassVar = Format(
        name="the progress of a set",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(ardx="0.2.0", what="a manifest of version 2 in it; arrays"),
            Change(ardx="0.2.0", what="a manifest of version 3 in it"),
        ),
    )

    schema_version: int = FORMAT.version
    plan: SetPlan
    done: int = 0
    fooled: int = 0
    arrays: dict[str, str] = field(default_factory=dict)


class SetWriter:
    """Writes the set of a plan to the folder `out`; a context manager.

    `append` the batches from sample `done` on, then `finish`. Leaving without having finished, by
    an exception, keeps the samples that are on the disk for the next run with the same plan.

    Raises:
        InputError: `out` exists without `force`, is no set, or is being written by another process.
        OSError: the disk is full or closed to us; names the array.
    """

    def __init__(self, out: Path, plan: SetPlan, *, force: bool = False) -> None:
        self._out = out
        self._plan = plan
        self._force = force
        self._partial = out.with_name(f".{out.name}.partial") if out.name else out
        self._set = self._partial / "set"
        self._retired = self._partial / "retired"
        self._files: dict[str, BinaryIO] = {}
        self._layout = layout_of(plan.manifest)
        self._hashes = {name: hashlib.sha256() for name in self._layout}
        self._lock: BinaryIO | None = None
        self._progress = SetProgress(plan=plan)
        self._worthless = False
        self.begun = ""

    @property
    def done(self) -> int:
        """Samples that are on the disk; the next batch begins with this one."""
        return self._progress.done

    @property
    def fooled(self) -> int:
        """How many of them fooled the source."""
        return self._progress.fooled

    def __enter__(self) -> SetWriter:
        refuse_folder(self._out, self._force, MANIFEST)
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = hold(
                self._partial / LOCK,
                f"{self._out}: another process is writing this set; wait for it to end, or "
                "choose another --out",
            )
        except OSError as error:
            raise self._named(error, "") from None
        try:
            self._restore()
            # Another process may have completed the set just before this one took the lock.
            refuse_folder(self._out, self._force, MANIFEST)
            if not self._go_on():
                self._start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def append(
        self,
        images: NDArray[Any],
        clean: NDArray[np.uint8],
        labels: NDArray[np.int64],
        success: NDArray[np.bool_],
        parent: NDArray[np.int64] | None = None,
    ) -> None:
        """Write the next batch: (B, C, H, W) twice, (B,) twice; on return it is on the disk.

        `parent` (B, 2) belongs to a set whose manifest names a parent.
        """
        arrays: tuple[NDArray[Any], ...] = (images, clean, labels, success)
        arrays = arrays if parent is None else (*arrays, parent)
        batch = dict(zip(self._layout, arrays, strict=True))
        expected = min(self._plan.batch_size, self._plan.manifest.samples - self.done)
        for name, (shape, descr) in self._layout.items():
            array = batch[name]
            assert (array.shape, array.dtype.str) == ((expected, *shape[1:]), descr), name
            self._write(name, np.ascontiguousarray(array))
        for name, file in self._files.items():
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise self._named(error, name) from None
        # Before, as an interruption may come between the count on the disk and the next line.
        worthless, self._worthless = self._worthless, False
        try:
            self._count(self.done + expected, self.fooled + int(np.count_nonzero(success)))
        except OSError:
            self._worthless = worthless
            raise

    def finish(self) -> SetManifest:
        """Vouch for the complete arrays and let the set take its place, all at once."""
        manifest = self._plan.manifest
        assert self.done == manifest.samples, "a set is finished before it is complete"
        self._close_files()
        # Of what was written, not of what lies there now.
        manifest = replace(manifest, arrays=self._written())
        try:
            write_json(self._set / MANIFEST, manifest, force=True)
        except OSError as error:
            raise self._named(error, MANIFEST) from None
        # Nothing that appeared there meanwhile is replaced without --force.
        refuse_folder(self._out, self._force, MANIFEST)
        if self._out.exists():
            self._out.replace(self._retired)
        self._set.replace(self._out)
        sync_folder(self._out.parent)
        self.discard()
        return manifest

    def discard(self) -> None:
        """Remove on leaving what was written: it can become no set."""
        self._worthless = True

    def _go_on(self) -> bool:
        """Take up an earlier run's samples, where it had the same plan."""
        if not (self._partial / PROGRESS).exists():
            return False
        try:
            found: SetProgress | None = read_json(
                self._partial / PROGRESS, SetProgress, "the progress of a set"
            )
        except InputError:
            found = None
        if found is None or found.plan != self._plan:
            self.begun = "started over: what lay unfinished there was of another command"
            return False
        if not (self._counted_well(found) and self._unchanged(found)):
            self.begun = "started over: what lay unfinished there was damaged"
            return False
        self._progress = found
        for name, size in self._sizes(found.done).items():
            file = (self._set / name).open("r+b", buffering=0)
            self._files[name] = file
            file.truncate(size)
            file.seek(size)
        self.begun = f"goes on after {found.done} samples" if found.done else ""
        return True

    def _counted_well(self, found: SetProgress) -> bool:
        """Is the count the end of a batch, and are that many samples there?"""
        samples, batch_size = found.plan.manifest.samples, found.plan.batch_size
        ends_a_batch = found.done == samples or found.done % batch_size == 0
        if not (0 <= found.done <= samples and ends_a_batch):
            return False
        sizes = self._sizes(found.done).items()
        paths = {name: self._set / name for name, _ in sizes}
        return all(paths[n].is_file() and paths[n].stat().st_size >= size for n, size in sizes)

    def _unchanged(self, found: SetProgress) -> bool:
        """Take up the hashes of what lies there; is it what was written?"""
        self._hashes = {
            name: _hash_of(self._set / name, size) for name, size in self._sizes(found.done).items()
        }
        size = self._sizes(found.done)["source_success.npy"]
        with (self._set / "source_success.npy").open("rb") as file:
            flags = np.frombuffer(file.read(size)[size - found.done :], dtype=np.uint8)
        return np.count_nonzero(flags) == found.fooled and found.arrays in ({}, self._written())

    def _written(self) -> dict[str, str]:
        return {name: digest.hexdigest() for name, digest in self._hashes.items()}

    def _start(self) -> None:
        """Begin with empty arrays; until a batch is counted there is nothing to keep."""
        self._hashes = {name: hashlib.sha256() for name in self._layout}
        self._worthless = True
        shutil.rmtree(self._set, ignore_errors=True)
        (self._partial / PROGRESS).unlink(missing_ok=True)
        self._set.mkdir()
        for name, header in self._headers().items():
            self._files[name] = (self._set / name).open("wb", buffering=0)
            self._write(name, np.frombuffer(header, dtype=np.uint8))
        self._count(0, 0)

    def _count(self, done: int, fooled: int) -> None:
        progress = replace(self._progress, done=done, fooled=fooled, arrays=self._written())
        try:
            write_json(self._partial / PROGRESS, progress, force=True)
        except OSError as error:
            raise self._named(error, "") from None
        self._progress = progress

    def _write(self, name: str, array: NDArray[Any]) -> None:
        """All bytes of an array, unbuffered: a failed write must not be tried again on closing."""
        left = array.reshape(-1).view(np.uint8).data
        try:
            while left:
                written = self._files[name].write(left)
                self._hashes[name].update(left[:written])
                left = left[written:]
        except OSError as error:
            raise self._named(error, name) from None

    def _headers(self) -> dict[str, bytes]:
        headers = {}
        for name, (shape, descr) in self._layout.items():
            stream = io.BytesIO()
            fields = {"descr": descr, "fortran_order": False, "shape": shape}
            write_array_header_1_0(stream, fields)
            headers[name] = stream.getvalue()
        return headers

    def _sizes(self, done: int) -> dict[str, int]:
        """Bytes of every array's file when it holds `done` samples."""
        headers = self._headers()
        return {
            name: len(headers[name]) + done * prod(shape[1:]) * np.dtype(descr).itemsize
            for name, (shape, descr) in self._layout.items()
        }

    def _named(self, error: OSError, name: str) -> OSError:
        """A failed write names no file or one that is hidden; name what the user asked for."""
        return OSError(error.errno, error.strerror, str(self._out / name))

    def _restore(self) -> None:
        """Undo half of a replacement; what was replaced to the end is of no more use."""
        if self._retired.exists() and not self._out.exists():
            self._retired.replace(self._out)
        shutil.rmtree(self._retired, ignore_errors=True)

    def _close_files(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _leave(self) -> None:
        """Release everything; what is worth nothing, or has become the set, is removed."""
        self._close_files()
        if self._lock is None:
            return
        self._restore()
        if self._worthless:
            shutil.rmtree(self._partial, ignore_errors=True)
        self._lock.close()


def _hash_of(path: Path, size: int) -> hashlib._Hash:
    """The sha256 of a file's first bytes, to which more can be added."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size and (block := file.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest
