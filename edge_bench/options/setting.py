"""The settings of a sweep, as `--sweep` names them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_bench.core.errors import InputError

SETTINGS = ("threads", "affinity", "batch")
MOST_THREADS = 1024
"""More than any board has cores; runtimes start as many as they are told to, until memory ends."""
MOST_BATCH = 65536
"""Images of one call."""
LONGEST = 20
"""Digits of a number; Python itself refuses to read very long ones."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of a sweep; None leaves a setting as it is."""

    threads: int | None = None
    cores: tuple[int, ...] | None = None
    batch_size: int = 1

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"batch {self.batch_size}", self.held)))

    @property
    def held(self) -> str:
        """What the runtime and the process were held to; empty where they were left as they are."""
        words = []
        if self.threads is not None:
            words.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.cores is not None:
            words.append(f"cores {cores_text(self.cores)}")
        return ", ".join(words)


def read_sweep(texts: list[str]) -> tuple[Setting, ...]:
    """Every combination of settings such as `threads=1,2,4 batch=1,8 affinity=0,0-1,0+2`.

    An affinity is a core, a range, or cores and ranges joined by `+`.

    Raises:
        InputError: an unknown or repeated setting, or values that it does not take.
    """
    values: dict[str, list[str]] = {}
    for word in " ".join(texts).split():
        name, equals, text = word.partition("=")
        if name not in SETTINGS or not equals or name in values:
            raise InputError(
                f"--sweep {word}: expected {', '.join(SETTINGS)}, once each, with values, such as "
                "threads=1,2,4 batch=1,8 affinity=0,0-1"
            )
        values[name] = text.split(",")
    if not values:
        return ()
    points = [Setting()]
    for name, texts in values.items():
        points = [_with(point, name, text) for point in points for text in texts]
    return tuple(points)


def _with(point: Setting, name: str, text: str) -> Setting:
    if name == "affinity":
        return replace(point, cores=_cores(text))
    if name == "batch":
        return replace(point, batch_size=_whole(text, name))
    return replace(point, threads=_whole(text, name))


def _whole(text: str, name: str) -> int:
    most = MOST_THREADS if name == "threads" else MOST_BATCH
    if not 1 <= whole_number(text) <= most:
        raise InputError(
            f"--sweep {name}: expected whole numbers of 1 or more, at most {most}, came "
            f"{text[:LONGEST]!r}"
        )
    return int(text)


def whole_number(text: str) -> int:
    """The number that a text of digits alone says; -1 where it is none, or of more than LONGEST."""
    return int(text) if text.isdecimal() and len(text) <= LONGEST else -1


def _cores(text: str) -> tuple[int, ...]:
    cores: set[int] = set()
    for part in text.split("+"):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not 0 <= whole_number(first) <= whole_number(last) < 4096:
            raise InputError(
                f"--sweep affinity: expected cores such as 0, 0-3 or 0+2, came {text[:LONGEST]!r}"
            )
        cores.update(range(int(first), int(last) + 1))
    return tuple(sorted(cores))


def cores_text(cores: tuple[int, ...]) -> str:
    """Core numbers as `--sweep` takes them, ranges written out."""
    return "+".join(map(str, cores))
