"""The versions of a file format: what changed when, and how older files are read.

A format stands beside the dataclass that its files become, as the class attribute `FORMAT`. Its
version is the number of entries in its history, and files say theirs as `schema_version`. An older
file is brought to the newest form by the upgrades of all later entries, one after the other. A
newer one is refused by name: its fields are never looked at, so that an unknown field of a known
version can only be a slip of whoever edited the file.

To change a format: change the dataclass, and add an entry that turns the form before into it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_bench.core.errors import InputError
from edge_bench.core.version import __version__

KEY = "schema_version"
WRITER = "ardx_version"
RELEASE = re.compile(r"\d[\w.+]{0,30}")

Fields = dict[str, Any]


def as_it_is(data: Fields) -> Fields:
    """The upgrade to a version that only has more fields, all of which have defaults."""
    return data


def without_writer(data: Fields) -> Fields:
    """The upgrade of a file that does not say which ardx wrote it; this one did not."""
    return {WRITER: None} | data


@dataclass(frozen=True, kw_only=True)
class Change:
    """One version of a format.

    Attributes:
        ardx: the release that wrote it first.
        what: what is in it that the version before had not, for people.
        upgrade: the fields of the version before to those of this one.
    """

    ardx: str
    what: str
    upgrade: Callable[[Fields], Fields] = as_it_is


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format.

    Attributes:
        name: with an article.
        history: its versions from 1 on.
        sealed_from: from which of them on each file carries the hash of its content (see
            `files.seals`); None where none does.
        anew: how a file that was edited or damaged is written anew, for sentences.
    """

    name: str
    history: tuple[Change, ...]
    sealed_from: int | None = None
    anew: str = "make the file again"

    @property
    def version(self) -> int:
        """The newest version, which this ardx writes."""
        return len(self.history)

    def upgraded(self, data: Fields, origin: str) -> Fields:
        """The fields of a file of any known version, in the newest form.

        Args:
            data: what the file holds; without a `schema_version` it is of version 1.
            origin: the file, for sentences.

        Raises:
            InputError: a newer version, or none at all.
        """
        version = data.get(KEY, 1)
        if type(version) is not int or version < 1:
            raise InputError(
                f"{origin}: expected {self.name} of schema version {self._read()}, came "
                f"{version!r}; make the file again"
            )
        if version > self.version:
            raise InputError(self._refusal(data, version, origin))
        for change in self.history[version:]:
            data = change.upgrade(data)
        return data | {KEY: self.version}

    def _read(self) -> str:
        return "1" if self.version == 1 else f"1 to {self.version}"

    def _refusal(self, data: Fields, version: int, origin: str) -> str:
        writer = _writer(data)
        wrote = f", written by ardx {writer}" if writer else ""
        remedy = f"ardx {writer}, or a later one" if writer else "the ardx that wrote it"
        return (
            f"{origin}: schema version {version} of {self.name}{wrote}, but this ardx "
            f"({__version__}) reads {self._read()}; use {remedy}"
        )


def _writer(data: Fields) -> str | None:
    """The release that a file says it was written by, wherever a newer format keeps that."""
    versions = data.get("versions")
    found = data.get(WRITER) or (versions.get("ardx") if isinstance(versions, dict) else None)
    return found if isinstance(found, str) and RELEASE.fullmatch(found) else None
