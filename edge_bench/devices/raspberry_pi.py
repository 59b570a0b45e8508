"""Raspberry Pi: told by the device tree's board name."""

from __future__ import annotations

from pathlib import Path

from edge_bench.devices import generic
from edge_bench.spec import DeviceProfile


def probe(root: Path) -> DeviceProfile | None:
    """The profile of a Raspberry Pi, or None on any other machine."""
    if "raspberrypi," not in generic.compatible(root):
        return None
    return generic.profile("rpi", root)
