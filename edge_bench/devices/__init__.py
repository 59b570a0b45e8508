"""Boards that can be told apart. To add one: a file here and an entry in DEVICES.

Everything takes the root of the file system, so that recorded trees can be read in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.spec import DeviceProfile
from edge_bench.devices import generic, jetson, raspberry_pi
from edge_bench.devices.sensors import Source


@dataclass(frozen=True, kw_only=True)
class Device:
    """How a kind of board is recognised and measured.

    Attributes:
        probe: the profile, or None where this machine is not that device.
        sources: its sensors.
        total: of the power rails that answer, by name, those whose sum is the total, and what
            that total is in words.
    """

    probe: Callable[[Path], DeviceProfile | None]
    sources: Callable[[Path], list[Source]]
    total: Callable[[list[str]], tuple[tuple[str, ...], str | None]]


DEVICES = {
    "jetson": Device(probe=jetson.probe, sources=jetson.sources, total=jetson.total),
    "rpi": Device(probe=raspberry_pi.probe, sources=raspberry_pi.sources, total=raspberry_pi.total),
    "local": Device(probe=generic.probe, sources=generic.sources, total=generic.total),
}

ROOT = Path("/")


def probe(device: str, root: Path = ROOT) -> DeviceProfile:
    """The profile of this machine as `device`; `auto` takes the first that fits.

    Raises:
        InputError: no such device name.
        CapabilityError: this machine is not that device.
    """
    if device == "auto":
        return next(p for p in (known.probe(root) for known in DEVICES.values()) if p)
    if device not in DEVICES:
        raise InputError(f"--device {device}: expected auto or one of {', '.join(DEVICES)}")
    profile = DEVICES[device].probe(root)
    if profile is None:
        found = probe("auto", root)
        raise CapabilityError(
            f"--device {device}: this machine is none; found {found.board or 'no board name'} "
            f"({found.architecture}, {found.cpu or 'unknown CPU'}); run there, or use "
            f"--device {found.device}"
        )
    return profile
