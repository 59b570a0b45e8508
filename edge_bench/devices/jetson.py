"""NVIDIA Jetson: told by the device tree's Tegra SoC."""

from __future__ import annotations

from pathlib import Path

from edge_bench.devices import generic
from edge_bench.spec import DeviceProfile


def probe(root: Path) -> DeviceProfile | None:
    """The profile of a Jetson, or None on any other machine."""
    if "nvidia,tegra" not in generic.compatible(root):
        return None
    return generic.profile("jetson", root)
