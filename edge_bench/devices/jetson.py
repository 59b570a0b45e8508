"""NVIDIA Jetson: told by the device tree's Tegra SoC, measured by its INA3221 and INA238 chips.

Paths, labels and units are those of the kernel's drivers `ina3221` and `ina238` and of NVIDIA's
Jetson Linux Developer Guide, "Platform Power and Performance".
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from edge_bench.core.series import CLOCK, EVENTS, POWER, STATE
from edge_bench.core.spec import DeviceProfile
from edge_bench.devices import generic
from edge_bench.devices.sensors import (
    Channel,
    FileSensor,
    FileSource,
    Source,
    cpu_clocks,
    found,
    own_name,
    read_int,
    temperatures,
)

TOTALS = ("VDD_IN", "VIN", "POM_5V_IN")
"""Rails that feed all the others, the first that is there."""
INA3221 = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
INA238 = "sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*"
GPU_CLOCKS = ("17000000.gpu", "17000000.ga10b", "gpu-gpc-0")
SHUNT_STEP_NV = 40_000
"""The INA3221's least step of the voltage across its shunt (its data sheet, section 7.5)."""
NVPMODEL_TIMEOUT_S = 5.0


def probe(root: Path) -> DeviceProfile | None:
    """The profile of a Jetson, or None on any other machine."""
    if "nvidia,tegra" not in generic.compatible(root):
        return None
    profile = generic.profile("jetson", root, power_mode=power_mode(), throttled=_throttled(root))
    release = _release(root)
    return replace(profile, os=f"{profile.os}, {release}") if release else profile


def _release(root: Path) -> str | None:
    """NVIDIA's release, which decides on CUDA and TensorRT."""
    text = generic.read_text(root / "etc/nv_tegra_release") or ""
    match = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"Jetson Linux {match[1]}.{match[2]}" if match else None


def sources(root: Path) -> list[Source]:
    """Power by rail, temperatures, clocks, and what counts or shows throttling."""
    sensors = [*_rails(root), *temperatures(root), *cpu_clocks(root), *_gpu_clocks(root)]
    return [FileSource([*sensors, *_throttling(root)])]


def total(rails: list[str]) -> tuple[tuple[str, ...], str | None]:
    """The rail that feeds the others where it is measured, else all of them."""
    for name in TOTALS:
        if name in rails:
            return (name,), f"{name}, which feeds the others"
    if not rails:
        return (), None
    return tuple(rails), f"sum of {', '.join(rails)}; the board's input is not measured"


def power_mode() -> str | None:
    """What `nvpmodel -q` names, with its number; None where it does not say."""
    program = shutil.which("nvpmodel")
    if program is None:
        return None
    try:
        ended = subprocess.run(  # noqa: S603 - a fixed program without a shell
            [program, "-q"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=NVPMODEL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = ended.stdout.decode(errors="replace")
    match = re.search(r"^NV Power Mode: *(\S.*?)\s*$(?:\s*^(\d+)\s*$)?", answer, re.MULTILINE)
    if match is None:
        return None
    return match[1] if match[2] is None else f"{match[1]} ({match[2]})"


def _rails(root: Path) -> list[FileSensor]:
    """Millivolts times milliamperes are microwatts; a channel that nothing is wired to is NC."""
    sensors = []
    names: set[str] = set()
    for chip in found(root, INA3221):
        for number in (1, 2, 3):  # in7 is a sum of voltages.
            label = generic.read_text(chip / f"in{number}_label")
            if label is None or "NC" in label.upper().split():
                continue
            files = (chip / f"in{number}_input", chip / f"curr{number}_input")
            shunt_uohm = read_int(chip / f"shunt{number}_resistor")
            volts_mv = read_int(files[0])
            step = None
            if shunt_uohm and volts_mv:
                step = round(volts_mv * SHUNT_STEP_NV / shunt_uohm)
            name = own_name(label, chip.parent.parent.name, names)
            channel = Channel(quantity=POWER, name=name, resolution=step)
            sensors.append(FileSensor(channel=channel, paths=files, combine=_product))
    for chip in found(root, INA238):
        # One chip, on the input of Thor's carrier board; its driver need not name it.
        label = generic.read_text(chip / "power1_label") or "VIN"
        channel = Channel(quantity=POWER, name=own_name(label, chip.parent.parent.name, names))
        sensors.append(FileSensor(channel=channel, paths=(chip / "power1_input",), combine=int))
    return sensors


def _product(volts_mv: bytes, current_ma: bytes) -> int:
    return int(volts_mv) * int(current_ma)


def _gpu_clocks(root: Path) -> list[FileSensor]:
    return [
        FileSensor(
            channel=Channel(quantity=CLOCK, name=f"gpu {name}"),
            paths=(root / "sys/class/devfreq" / name / "cur_freq",),
            combine=_kilohertz,
        )
        for name in GPU_CLOCKS
    ]


def _kilohertz(hertz: bytes) -> int:
    return int(hertz) // 1000


def _throttling(root: Path) -> list[FileSensor]:
    """Counters of over-current events, and the thermal framework's alerts."""
    sensors = [
        FileSensor(channel=Channel(quantity=EVENTS, name=name), paths=(path,), combine=int)
        for name, path in _counters(root)
    ]
    for device in found(root, "sys/class/thermal/cooling_device*"):
        name = generic.read_text(device / "type") or ""
        if name.endswith("-throttle-alert"):
            channel = Channel(quantity=STATE, name=name)
            sensors.append(FileSensor(channel=channel, paths=(device / "cur_state",), combine=int))
    return sensors


def _counters(root: Path) -> list[tuple[str, Path]]:
    chips = [
        chip
        for chip in found(root, "sys/class/hwmon/hwmon*")
        if generic.read_text(chip / "name") == "soctherm_oc"
    ]
    return [
        (f"oc{number}", chip / f"oc{number}_event_cnt") for chip in chips for number in (1, 2, 3)
    ]


def _throttled(root: Path) -> tuple[str, ...] | None:
    """Over-current events since boot; None where nothing counts them."""
    counts = {name: read_int(path) for name, path in _counters(root)}
    known = {name: count for name, count in counts.items() if count is not None}
    if not known:
        return None
    return tuple(f"{name}: {count} events since boot" for name, count in known.items() if count)
