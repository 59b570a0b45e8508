"""Any machine that Python runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from edge_bench.spec import DeviceProfile


def probe(root: Path) -> DeviceProfile | None:
    """The profile of this machine; always one."""
    return profile("local", root)


def profile(device: str, root: Path) -> DeviceProfile:
    """A profile under the given device name from what every Linux tells about itself."""
    return DeviceProfile(
        device=device,
        board=board_name(root),
        cpu=_cpu_name(root),
        architecture=platform.machine(),
        cores=os.cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        os=_os_name(root),
        python=platform.python_version(),
        governor=read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    )


def read_text(path: Path) -> str | None:
    """Text of a small system file without NULs and outer space; None where unreadable."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.replace("\x00", " ").strip() or None


def board_name(root: Path) -> str | None:
    """The device tree's or the firmware's name of the board."""
    for path in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        if name := read_text(root / path):
            return name
    return None


def compatible(root: Path) -> str:
    """The device tree's list of compatible boards and SoCs, empty without a device tree."""
    return read_text(root / "proc/device-tree/compatible") or ""


def _cpu_name(root: Path) -> str | None:
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or None


def _os_name(root: Path) -> str:
    for line in (read_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return platform.platform()
