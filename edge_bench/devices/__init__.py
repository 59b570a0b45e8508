"""Boards that can be told apart. To add one: a file here and an entry in DEVICES.

A device probe takes the root of the file system, so that recorded trees can be read in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_bench.devices import generic, jetson, raspberry_pi
from edge_bench.errors import CapabilityError, InputError
from edge_bench.spec import DeviceProfile

DEVICES: dict[str, Callable[[Path], DeviceProfile | None]] = {
    "jetson": jetson.probe,
    "rpi": raspberry_pi.probe,
    "local": generic.probe,
}
"""Name to probe: the profile, or None where this machine is not that device."""

ROOT = Path("/")


def probe(device: str, root: Path = ROOT) -> DeviceProfile:
    """The profile of this machine as `device`; `auto` takes the first that fits.

    Raises:
        InputError: no such device name.
        CapabilityError: this machine is not that device.
    """
    if device == "auto":
        return next(p for p in (probe_one(root) for probe_one in DEVICES.values()) if p)
    if device not in DEVICES:
        raise InputError(f"--device {device}: expected auto or one of {', '.join(DEVICES)}")
    profile = DEVICES[device](root)
    if profile is None:
        found = probe("auto", root)
        raise CapabilityError(
            f"--device {device}: this machine is none; found {found.board or 'no board name'} "
            f"({found.architecture}, {found.cpu or 'unknown CPU'}); run there, or use "
            f"--device {found.device}"
        )
    return profile
