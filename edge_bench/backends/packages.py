"""Packages that a part of ardx needs, and whether this Python has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, kw_only=True)
class Package:
    """A module that is needed.

    Attributes:
        requirement: for pip; `NAME>=VERSION`.
        others: distributions that bring the same module.
    """

    module: str
    requirement: str
    others: tuple[str, ...] = ()

    def is_here(self) -> bool:
        """Can this Python import it, in a version that will do?

        Of a module without metadata, as one that was built by hand, nothing speaks against it.
        """
        if find_spec(self.module) is None:
            return False
        from importlib import metadata  # It brings the parser of e-mails: 25 ms of every command.

        name, least = self.requirement.split(">=")
        for distribution in (name, *self.others):
            try:
                return _numbers(metadata.version(distribution)) >= _numbers(least)
            except metadata.PackageNotFoundError:
                continue
        return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


BASE = (
    Package(module="numpy", requirement="numpy>=1.24"),
    Package(module="typer", requirement="typer>=0.26"),
    Package(module="psutil", requirement="psutil>=5.9"),
)
"""What every command on a board needs."""
