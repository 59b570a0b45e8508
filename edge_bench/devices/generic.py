"""Any machine that Python runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from edge_bench.core.spec import DeviceProfile
from edge_bench.devices.sensors import FileSource, Source, cpu_clocks, temperatures

ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
    "0xd83": "Neoverse-V3AE",
}
"""Arm's part numbers of the boards' cores, from the kernel's arch/arm64/include/asm/cputype.h."""

VNNI_FLAGS = ("avx512_vnni", "avx_vnni")
"""As Linux spells them: the forms of 512 and of 256 bits."""


def probe(root: Path) -> DeviceProfile | None:
    """The profile of this machine; always one."""
    return profile("local", root)


def sources(root: Path) -> list[Source]:
    """Temperatures and clocks, where the kernel tells them."""
    return [FileSource([*temperatures(root), *cpu_clocks(root)])]


def total(rails: list[str]) -> tuple[tuple[str, ...], str | None]:
    """No power is told."""
    return (), None


def profile(
    device: str,
    root: Path,
    *,
    power_mode: str | None = None,
    throttled: tuple[str, ...] | None = None,
) -> DeviceProfile:
    """A profile under the given device name from what every Linux tells about itself."""
    cpu = "sys/devices/system/cpu"
    return DeviceProfile(
        device=device,
        board=board_name(root),
        soc=compatible(root).split(" ")[-1] or None,
        cpu=_cpu_name(root),
        architecture=platform.machine(),
        cores=_count(read_text(root / cpu / "online")) or os.cpu_count(),
        memory_bytes=_memory_bytes(root) or psutil.virtual_memory().total,
        os=_os_name(root),
        kernel=read_text(root / "proc/sys/kernel/osrelease"),
        python=platform.python_version(),
        governor=read_text(root / cpu / "cpu0/cpufreq/scaling_governor"),
        power_mode=power_mode,
        throttled=throttled,
        vnni=has_vnni(root),
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


def vnni_flags(root: Path) -> tuple[str, ...] | None:
    """Those of VNNI_FLAGS that the first processor has; None where no x86 Linux lists its flags."""
    flags = next((value for key, value in _fields(root / "proc/cpuinfo") if key == "flags"), None)
    return None if flags is None else tuple(f for f in VNNI_FLAGS if f in flags.split())


def has_vnni(root: Path) -> bool | None:
    """Does the processor have VNNI? None where that cannot be read."""
    found = vnni_flags(root)
    return None if found is None else bool(found)


def _cpu_name(root: Path) -> str | None:
    """The core's name; Arm's kernels tell a number, or `ARMv8 Processor` of every core."""
    known = dict(_fields(root / "proc/cpuinfo"))
    if known.get("CPU implementer") == "0x41" and known.get("CPU part") in ARM_PARTS:
        return ARM_PARTS[known["CPU part"]]
    return known.get("model name") or platform.processor() or None


def _memory_bytes(root: Path) -> int | None:
    words = dict(_fields(root / "proc/meminfo")).get("MemTotal", "").split()
    return int(words[0]) * 1024 if len(words) == 2 and words[0].isdecimal() else None


def _fields(path: Path) -> list[tuple[str, str]]:
    """Lines of `key: value` that have a value."""
    lines = (read_text(path) or "").splitlines()
    pairs = [(key.strip(), value.strip()) for key, _, value in (s.partition(":") for s in lines)]
    return [(key, value) for key, value in pairs if value]


def _count(online: str | None) -> int | None:
    """The size of a kernel's list such as `0-3,6`; None where it is no such list."""
    try:
        ranges = [part.split("-") for part in (online or "").split(",")]
        return sum(int(part[-1]) - int(part[0]) + 1 for part in ranges)
    except ValueError:
        return None


def _os_name(root: Path) -> str:
    for line in (read_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return platform.platform()
