"""Trees of the files that five boards have, and of a PC's.

Layouts, labels and values are those that owners of such boards published and that the kernel's
documents describe; links are where sysfs has them.
"""

from __future__ import annotations

from pathlib import Path

LINK = "-> "
CPU = "sys/devices/system/cpu"
CLOCKS = f"{CPU}/cpufreq/policy"
THERMAL = "sys/devices/virtual/thermal/thermal_zone"
DRIVERS = "sys/bus/i2c/drivers"
TEGRA_I2C = "sys/devices/platform/bus@0/c240000.i2c"
# A read of a zone without power raises; so does one of a folder.
UNREADABLE = None

Tree = dict[str, str | None]


def ina3221(address: str, hwmon: int, rails: list[tuple[str, int, int, int]]) -> Tree:
    """Label, mV, mA and micro-ohms of each channel, behind the driver's link to the device."""
    bus = address[0]
    device = f"{TEGRA_I2C}/i2c-{bus}/{address}"
    up = "../" * 4
    tree: Tree = {f"{DRIVERS}/ina3221/{address}": f"{LINK}{up}{device.removeprefix('sys/')}"}
    folder = f"{device}/hwmon/hwmon{hwmon}"
    tree[f"{folder}/name"] = "ina3221\n"
    for number, (label, millivolts, milliamperes, shunt) in enumerate(rails, start=1):
        tree |= {
            f"{folder}/in{number}_label": f"{label}\n",
            f"{folder}/in{number}_input": f"{millivolts}\n",
            f"{folder}/curr{number}_input": f"{milliamperes}\n",
            f"{folder}/shunt{number}_resistor": f"{shunt}\n",
        }
    return tree | {
        f"{folder}/in7_label": "sum of shunt voltages\n",
        f"{folder}/in7_input": "760\n",
        f"{folder}/curr4_input": "360\n",
    }


def zones(**temperatures: str | None) -> Tree:
    tree: Tree = {}
    for number, (name, text) in enumerate(temperatures.items()):
        tree[f"{THERMAL}{number}/type"] = f"{name.replace('_', '-')}\n"
        tree[f"{THERMAL}{number}/temp"] = text if text is None else f"{text}\n"
        link = f"{LINK}../../devices/virtual/thermal/thermal_zone{number}"
        tree[f"sys/class/thermal/thermal_zone{number}"] = link
    return tree


def cpufreq(online: str, governor: str, **khz: int) -> Tree:
    tree: Tree = {f"{CPU}/online": f"{online}\n"}
    tree[f"{CPU}/cpu0/cpufreq"] = f"{LINK}../cpufreq/policy0"
    for name, value in khz.items():
        tree[f"{CPU}/cpufreq/{name}/scaling_cur_freq"] = f"{value}\n"
        tree[f"{CPU}/cpufreq/{name}/scaling_governor"] = f"{governor}\n"
    return tree


def over_current(hwmon: int, *counts: int) -> Tree:
    device = f"sys/devices/platform/soctherm-oc-event/hwmon/hwmon{hwmon}"
    tree: Tree = {f"{device}/name": "soctherm_oc\n"}
    tree[f"sys/class/hwmon/hwmon{hwmon}"] = f"{LINK}../../{device.removeprefix('sys/')}"
    for number, count in enumerate(counts, start=1):
        tree[f"{device}/oc{number}_event_cnt"] = f"{count}\n"
    return tree


def alert(number: int, name: str, state: int) -> Tree:
    folder = f"sys/class/thermal/cooling_device{number}"
    return {f"{folder}/type": f"{name}\n", f"{folder}/cur_state": f"{state}\n"}


def cpuinfo(part: str, name: str | None = None) -> str:
    model = f"model name\t: {name}\n" if name else ""
    return f"processor\t: 0\n{model}CPU implementer\t: 0x41\nCPU part\t: {part}\n"


def board(model: str, compatible: str, part: str, memory_kib: int, os_name: str) -> Tree:
    jetson = "nvidia" in compatible
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": compatible.replace(" ", "\0") + "\0",
        "proc/cpuinfo": cpuinfo(part, "ARMv8 Processor rev 1 (v8l)" if jetson else None),
        "proc/meminfo": f"MemTotal:       {memory_kib} kB\nMemFree:          123456 kB\n",
        "etc/os-release": f'NAME="x"\nPRETTY_NAME="{os_name}"\n',
    }


BOARDS: dict[str, Tree] = {
    "orin-nano": {
        **board(
            "NVIDIA Jetson Orin Nano Developer Kit",
            "nvidia,p3768-0000+p3767-0005 nvidia,p3767-0005 nvidia,tegra234",
            "0xd42",
            7802928,
            "Ubuntu 22.04.5 LTS",
        ),
        **cpufreq("0-5", "schedutil", policy0=1510400, policy4=729600),
        **ina3221(
            "1-0040",
            1,
            [
                ("VDD_IN", 5040, 1008, 5000),
                ("VDD_CPU_GPU_CV", 5032, 184, 5000),
                ("VDD_SOC", 5032, 288, 5000),
            ],
        ),
        **zones(
            cpu_thermal="48531",
            gpu_thermal="47906",
            cv0_thermal=UNREADABLE,
            cv1_thermal=UNREADABLE,
            cv2_thermal=UNREADABLE,
            soc0_thermal="46875",
            tj_thermal="48531",
        ),
        **over_current(2, 0, 0, 7),
        **alert(0, "pwm-fan", 2),
        **alert(1, "cpu-throttle-alert", 0),
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
        "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n",
    },
    "agx-orin": {
        **board(
            "NVIDIA Jetson AGX Orin Developer Kit",
            "nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005 nvidia,tegra234",
            "0xd42",
            64350208,
            "Ubuntu 22.04.5 LTS",
        ),
        **cpufreq("0-3", "schedutil", policy0=729600, policy4=729600, policy8=729600),
        **ina3221(
            "1-0040",
            3,
            [
                ("VDD_GPU_SOC", 19736, 160, 2000),
                ("VDD_CPU_CV", 19736, 20, 2000),
                ("VIN_SYS_5V0", 4968, 953, 2000),
            ],
        ),
        **ina3221(
            "1-0041",
            4,
            [("NC", 0, 0, 2000), ("VDDQ_VDD2_1V8AO", 4968, 80, 2000), ("NC", 0, 0, 2000)],
        ),
        # A sensor of a unit that is off says -256 degrees.
        **zones(cpu_thermal="45500", gpu_thermal="-256000", tboard_thermal="36250"),
        **over_current(5, 0, 0, 0),
        "sys/class/devfreq/17000000.ga10b/cur_freq": "306000000\n",
    },
    "thor": {
        **board(
            "NVIDIA Jetson AGX Thor Developer Kit",
            "nvidia,p4071-0000+p3834-0008 nvidia,p3834-0008 nvidia,tegra264",
            "0xd83",
            128790092,
            "Ubuntu 24.04.3 LTS",
        ),
        **cpufreq("0-13", "schedutil", policy0=972000),
        **ina3221(
            "2-0040",
            4,
            [
                ("VDD_GPU", 19704, -20, 2000),  # a rail that sleeps reads a little below 0
                ("VDD_CPU_SOC_MSS", 19704, 330, 2000),
                ("VIN_SYS_5V0", 4992, 1300, 2000),
            ],
        ),
        f"{DRIVERS}/ina238/2-0044/hwmon/hwmon5/name": "ina238\n",
        f"{DRIVERS}/ina238/2-0044/hwmon/hwmon5/power1_input": "23150000\n",
        **zones(
            tj_thermal="55100",
            cpu_thermal="53700",
            gpu_thermal=UNREADABLE,
            soc012_thermal="55100",
            soc345_thermal="53700",
        ),
        **over_current(6, 0, 8, 813),
        "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
    },
    "pi-4": {
        **board(
            "Raspberry Pi 4 Model B Rev 1.5",
            "raspberrypi,4-model-b brcm,bcm2711",
            "0xd08",
            3884308,
            "Debian GNU/Linux 12 (bookworm)",
        ),
        **cpufreq("0-3", "ondemand", policy0=1800000),
        **zones(cpu_thermal="51121"),
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n",
    },
    "pi-5": {
        **board(
            "Raspberry Pi 5 Model B Rev 1.0",
            "raspberrypi,5-model-b brcm,bcm2712",
            "0xd0b",
            8245216,
            "Debian GNU/Linux 12 (bookworm)",
        ),
        **cpufreq("0-3", "ondemand", policy0=2400000),
        **zones(cpu_thermal="58600"),
    },
    "pc": {
        "sys/class/dmi/id/product_name": "OptiPlex 7090\n",
        "proc/cpuinfo": "model name\t: Intel(R) Core(TM) i7-10700 CPU @ 2.90GHz\n",
    },
}


def write_board(name: str, root: Path) -> None:
    """The tree of the board of that name."""
    for place, text in BOARDS[name].items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir()
        elif text.startswith(LINK):
            path.symlink_to(text.removeprefix(LINK))
        else:
            path.write_text(text, encoding="utf-8")
