"""Raspberry Pi: told by the device tree's board name, measured by sysfs and its firmware."""

from __future__ import annotations

from pathlib import Path

from edge_bench.core.series import FLAGS
from edge_bench.core.spec import DeviceProfile
from edge_bench.devices import generic, vcgencmd
from edge_bench.devices.sensors import (
    Channel,
    FileSensor,
    FileSource,
    Source,
    cpu_clocks,
    found,
    temperatures,
)
from edge_bench.devices.vcgencmd import flag_names

FLAGS_S = 0.5
"""Older kernels ask the firmware for the throttling bits at every read, which is not worth 10 Hz;
newer ones show what their driver heard last, and hears every 2 s, so a bit may be there so long."""


def probe(root: Path) -> DeviceProfile | None:
    """The profile of a Raspberry Pi, or None on any other machine."""
    if "raspberrypi," not in generic.compatible(root):
        return None
    bits = _throttle_bits(root)
    return generic.profile("rpi", root, throttled=None if bits is None else flag_names(bits))


def sources(root: Path) -> list[Source]:
    """Temperatures and clocks from sysfs, and what only the firmware tells from vcgencmd."""
    found_here: list[Source] = [FileSource([*temperatures(root), *cpu_clocks(root)])]
    flags = FileSource(_throttle_files(root), period_s=FLAGS_S)
    if all(value is None for value in flags.read()):
        flags.close()
        found_here.append(vcgencmd.throttle_source())
    else:
        found_here.append(flags)
    if not temperatures(root):
        found_here.append(vcgencmd.temperature_source())
    return [*found_here, vcgencmd.power_source()]


def total(rails: list[str]) -> tuple[tuple[str, ...], str | None]:
    """All rails of the power chip; what the board draws from its supply is more."""
    if not rails:
        return (), None
    return tuple(rails), "sum of the power chip's rails; the board's input is not measured"


def _throttle_files(root: Path) -> list[FileSensor]:
    paths = found(root, "sys/devices/platform/soc*/soc*:firmware/get_throttled")
    channel = Channel(quantity=FLAGS, name=vcgencmd.THROTTLED)
    return [FileSensor(channel=channel, paths=(path,), combine=_hexadecimal) for path in paths[:1]]


def _hexadecimal(text: bytes) -> int:
    return int(text, 16)


def _throttle_bits(root: Path) -> int | None:
    source = FileSource(_throttle_files(root))
    (bits,) = source.read() or [None]
    source.close()
    return vcgencmd.throttle_bits() if bits is None else bits
