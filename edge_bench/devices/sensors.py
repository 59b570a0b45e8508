"""What sensors say, again and again: files of sysfs that stay open, each value a whole number.

Values are kept in the kernel's own units, so that nothing is rounded: microwatts, thousandths of
a degree, kilohertz. A reading that fails is None, and the next one may succeed: a zone of a unit
without power raises, and speaks again once the unit has power.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_bench.core.series import CLOCK, TEMPERATURE

FAST_S = 0.1
"""Period of what is read from files: 10 Hz."""
MOST_CLOCKS = 16
"""A PC has a group per core, and each reading asks that core."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One number that a source gives at each reading.

    Attributes:
        quantity: one of `samples.QUANTITIES`, which fixes the unit.
        name: the sensor's own name (`VDD_IN`, `cpu-thermal`).
        resolution: the sensor's least step in that unit; None where it is not known.
    """

    quantity: str
    name: str
    resolution: int | None = None


class Source(Protocol):
    """Channels that are read together, every `period_s` seconds."""

    period_s: float
    channels: tuple[Channel, ...]

    def read(self) -> list[int | None]:
        """A value per channel; None where it could not be read this time."""

    def close(self) -> None:
        """Let go of files."""


@dataclass(frozen=True, kw_only=True)
class FileSensor:
    """A channel made of one file or more; `combine` gets the bytes of each."""

    channel: Channel
    paths: tuple[Path, ...]
    combine: Callable[..., int]


class FileSource:
    """Sensors in sysfs. Files stay open: a read is one system call, and opening costs three times.

    What cannot be opened is left out. A file whose device goes away gives an error from then on.
    """

    def __init__(self, sensors: list[FileSensor], period_s: float = FAST_S) -> None:
        self.period_s = period_s
        self._opened: list[tuple[FileSensor, list[int]]] = []
        for sensor in sensors:
            descriptors: list[int] = []
            try:
                for path in sensor.paths:
                    descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                _close(descriptors)
                continue
            self._opened.append((sensor, descriptors))
        self.channels = tuple(sensor.channel for sensor, _ in self._opened)

    def read(self) -> list[int | None]:
        """A value per channel; None where the file cannot be read or holds no such number."""
        values: list[int | None] = []
        for sensor, descriptors in self._opened:
            try:
                values.append(sensor.combine(*[os.pread(fd, 64, 0) for fd in descriptors]))
            except (OSError, ValueError):
                values.append(None)
        return values

    def close(self) -> None:
        """Close the files."""
        for _, descriptors in self._opened:
            _close(descriptors)
        self._opened = []


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def found(root: Path, pattern: str) -> list[Path]:
    """What matches in sysfs, in name order; nothing where it cannot be listed."""
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def read_int(path: Path) -> int | None:
    """The whole number that a file holds; None where it cannot be read."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def own_name(name: str, place: str, taken: set[str]) -> str:
    """`name`, with its place where an earlier sensor has that name already; it is `taken` then."""
    chosen = name if name not in taken else f"{name} ({place})"
    taken.add(chosen)
    return chosen


def temperatures(root: Path) -> list[FileSensor]:
    """The kernel's thermal zones, by their types."""
    sensors: list[FileSensor] = []
    names: set[str] = set()
    for zone in found(root, "sys/class/thermal/thermal_zone*"):
        try:
            name = (zone / "type").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = ""
        channel = Channel(quantity=TEMPERATURE, name=own_name(name or "zone", zone.name, names))
        sensors.append(FileSensor(channel=channel, paths=(zone / "temp",), combine=millidegrees))
    return sensors


def millidegrees(text: bytes) -> int:
    """A zone's reading.

    Raises:
        ValueError: no temperature that a board can have; drivers of sleeping sensors say -256.
    """
    value = int(text)
    if not -55_000 <= value <= 150_000:
        raise ValueError(f"{value} is no temperature")
    return value


def cpu_clocks(root: Path) -> list[FileSensor]:
    """The clock of each group of CPU cores that changes as one; a server's first MOST_CLOCKS."""
    return [
        FileSensor(
            channel=Channel(quantity=CLOCK, name=f"cpu {policy.name}"),
            paths=(policy / "scaling_cur_freq",),
            combine=int,
        )
        for policy in found(root, "sys/devices/system/cpu/cpufreq/policy*")[:MOST_CLOCKS]
    ]
