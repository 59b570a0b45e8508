"""Boards that can be told apart. To add one: a file here and an entry in DEVICES.

A file has `probe`, `sources` and `total`, as `Device` describes them. Everything takes the root of
the file system, so that recorded trees can be read in tests. A file is imported when its board is
asked for, so that help can name every board without reading one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_bench.core.errors import CapabilityError, InputError

if TYPE_CHECKING:
    from edge_bench.core.spec import DeviceProfile
    from edge_bench.devices.sensors import Source


@dataclass(frozen=True, kw_only=True)
class Device:
    """How a kind of board is recognised and measured.

    Attributes:
        file: the file in this folder that knows how.
        text: what it is, for people.
    """

    file: str
    text: str

    def probe(self, root: Path) -> DeviceProfile | None:
        """The profile, or None where this machine is not that device."""
        found: DeviceProfile | None = self._module().probe(root)
        return found

    def sources(self, root: Path) -> list[Source]:
        """Its sensors."""
        found: list[Source] = self._module().sources(root)
        return found

    def total(self, rails: list[str]) -> tuple[tuple[str, ...], str | None]:
        """Of the power rails that answer, those whose sum is the total, and what that total is."""
        found: tuple[tuple[str, ...], str | None] = self._module().total(rails)
        return found

    def _module(self) -> Any:
        return import_module(f"edge_bench.devices.{self.file}")


DEVICES: dict[str, Device] = {
    "jetson": Device(file="jetson", text="NVIDIA Jetson"),
    "rpi": Device(file="raspberry_pi", text="Raspberry Pi"),
    # The last one, since it is every machine.
    "local": Device(file="generic", text="any machine"),
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
