"""What a benchmark has found so far, on disk, so that the same command goes on after any end.

A run asks the artefact one question after the other: a batch of a set, a batch that Square tries.
Which question comes next follows from the command and from the answers so far. So the journal is a
list of answers, and a run that finds one takes its answers instead of asking again.

The file `.NAME.journal` beside the report NAME is appended to, and held by the process that writes
it. Every record is

    length   4 bytes, little-endian: of what is recorded
    check    4 bytes: CRC-32 of the length and of what is recorded, begun with the check before it
    ...      what is recorded: first, as JSON, all that the answers follow from; then the answers

What is torn, or was left there by an older journal, fails its check and is cut off. An answer that
was written outlives its process. It outlives a power cut once it was synced, too, which is done as
soon as SYNC_SHARE times the last sync's duration has passed: after every batch where a batch takes
that long, else so often that a slow card takes a half percent of the time.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import Any, BinaryIO

from edge_bench.files.locks import hold
from edge_bench.files.store import sync_folder

Ask = Callable[[], bytes]
Answer = Callable[[Ask], bytes]
"""Called with what would ask the artefact; gives the answer, which may be an older one."""

HEADER = struct.Struct("<II")
LONGEST = 1 << 26
"""Bytes of a record; more is a torn length."""
SYNC_SHARE = 200
LONGEST_UNSYNCED_NS = 30 * 10**9


def ask_anew(ask: Ask) -> bytes:
    """The answering of a run without a journal."""
    return ask()


def journal_path(report: Path) -> Path:
    """Where the journal of a report lies."""
    return report.with_name(f".{report.name}.journal")


class Journal:
    """The answers of the run that will write `report`; a context manager.

    `begin`, then `answer` every question in its order, then `close_for` the report once written.
    Leaving before that keeps the answers for the next run.

    Raises:
        InputError: another process is writing this report.
        OSError: the disk is full or closed to us; names the report.
    """

    def __init__(self, report: Path, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._report, self._path, self._clock = report, journal_path(report), clock
        self._file: BinaryIO | None = None
        self._old: BinaryIO | None = None
        self._check = 0
        self._end = 0
        self._keeps = False
        self._synced_ns: int | None = None
        self._sync_took_ns = 0

    def __enter__(self) -> Journal:
        try:
            self._file = hold(
                self._path,
                f"{self._report}: another process is writing this report; wait for it to end, or "
                "choose another --out",
            )
        except OSError as error:
            raise self._named(error) from None
        self._keeps = self._path.stat().st_size > 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget_old()
        if not self._keeps:
            self._path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()

    def begin(self, asked: dict[str, Any]) -> str:
        """Take up the answers of a run that was asked the same, else start anew; say which.

        `asked` is all that the answers follow from, by what a person would call it, as plain JSON
        values. The sentence is empty where there was nothing.
        """
        self._old = self._path.open("rb")
        text = json.dumps(asked, sort_keys=True).encode()
        found = self._next()
        size = self._path.stat().st_size
        if found == text:
            return "goes on where it was interrupted" if size > self._end else ""
        self._start(text)
        if not size:
            return ""
        return f"started over: what lay unfinished there {_difference(found, asked)}"

    def answer(self, ask: Ask) -> bytes:
        """The next answer: the recorded one, or that of `ask`, which is recorded."""
        if self._old is not None:
            recorded = self._next()
            if recorded is not None:
                return recorded
            self._forget_old()
            self._cut(self._end)
        new = ask()
        self._append(new)
        self._keeps = True
        return new

    def sync(self) -> None:
        """Let what was recorded outlive a power cut, from now on."""
        begin = self._clock()
        try:
            os.fsync(self._opened.fileno())
            if self._synced_ns is None:
                sync_folder(self._path.parent)
        except OSError as error:
            raise self._named(error) from None
        self._synced_ns = self._clock()
        self._sync_took_ns = self._synced_ns - begin

    def close_for(self, report: Path) -> None:
        """Forget the answers: `report` was written from them, and is now made to last."""
        with report.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(report.parent)
        self.discard()

    def discard(self) -> None:
        """Remove on leaving what was answered."""
        self._keeps = False

    @property
    def _opened(self) -> BinaryIO:
        assert self._file is not None, "a journal is used outside its `with`"
        return self._file

    def _start(self, text: bytes) -> None:
        self._forget_old()
        self._keeps = False
        self._check = self._end = 0
        self._cut(0)
        self._append(text)

    def _next(self) -> bytes | None:
        """The next whole record; None from the end, or the first damage, on."""
        assert self._old is not None
        header = self._old.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        length, check = HEADER.unpack(header)
        recorded = self._old.read(length) if length <= LONGEST else b""
        if len(recorded) != length or check != _checked(recorded, self._check):
            return None
        self._check = check
        self._end += HEADER.size + length
        return recorded

    def _append(self, recorded: bytes) -> None:
        assert len(recorded) <= LONGEST
        check = _checked(recorded, self._check)
        left = memoryview(HEADER.pack(len(recorded), check) + recorded)
        try:
            while left:
                left = left[self._opened.write(left) :]
        except OSError as error:
            raise self._named(error) from None
        self._check = check
        if self._is_sync_due():
            self.sync()

    def _is_sync_due(self) -> bool:
        if self._synced_ns is None:
            return True
        wait_ns = min(SYNC_SHARE * self._sync_took_ns, LONGEST_UNSYNCED_NS)
        # Written so that a clock that went back is no reason to wait.
        return not 0 <= self._clock() - self._synced_ns < wait_ns

    def _cut(self, size: int) -> None:
        try:
            self._opened.truncate(size)
        except OSError as error:
            raise self._named(error) from None

    def _forget_old(self) -> None:
        if self._old is not None:
            self._old.close()
            self._old = None

    def _named(self, error: OSError) -> OSError:
        """Name what the user asked for rather than a hidden file."""
        return OSError(error.errno, error.strerror, str(self._report))


def _checked(recorded: bytes, before: int) -> int:
    return zlib.crc32(recorded, zlib.crc32(struct.pack("<I", len(recorded)), before))


def _difference(found: bytes | None, asked: dict[str, Any]) -> str:
    """What an older journal differs in, for people."""
    if found is None:
        return "was damaged"
    # Through JSON, so that tuples are lists on both sides.
    old, new = json.loads(found), json.loads(json.dumps(asked))
    others = [name for name in new if old.get(name) != new[name]]
    return f"was of {' and '.join(f'another {name}' for name in others) or 'another command'}"
