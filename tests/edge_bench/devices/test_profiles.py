"""Each board is described from its own files and programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_bench import devices
from edge_bench.devices import jetson

MakeBoard = Callable[[str], Path]
MakeProgram = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("name", "device", "soc", "cpu", "cores", "memory_gib"),
    [
        ("orin-nano", "jetson", "nvidia,tegra234", "Cortex-A78AE", 6, 7.44),
        ("agx-orin", "jetson", "nvidia,tegra234", "Cortex-A78AE", 4, 61.37),
        ("thor", "jetson", "nvidia,tegra264", "Neoverse-V3AE", 14, 122.82),
        ("pi-4", "rpi", "brcm,bcm2711", "Cortex-A72", 4, 3.70),
        ("pi-5", "rpi", "brcm,bcm2712", "Cortex-A76", 4, 7.86),
    ],
)
def test_a_board_s_profile_is_read_from_its_tree(
    make_board: MakeBoard,
    name: str,
    device: str,
    soc: str,
    cpu: str,
    cores: int,
    memory_gib: float,
) -> None:
    profile = devices.probe("auto", make_board(name))
    assert (profile.device, profile.soc, profile.cpu) == (device, soc, cpu)
    assert profile.cores == cores
    assert profile.memory_bytes is not None
    assert profile.memory_bytes / 2**30 == pytest.approx(memory_gib, abs=0.01)


def test_the_kernel_and_the_governor_are_those_of_the_tree(make_board: MakeBoard) -> None:
    profile = devices.probe("jetson", make_board("orin-nano"))
    assert (profile.kernel, profile.governor) == ("5.15.148-tegra", "schedutil")


def test_a_jetson_s_system_names_nvidia_s_release(make_board: MakeBoard) -> None:
    assert devices.probe("jetson", make_board("orin-nano")).os == (
        "Ubuntu 22.04.5 LTS, Jetson Linux 36.4.3"
    )
    assert devices.probe("jetson", make_board("thor")).os == "Ubuntu 24.04.3 LTS"


def test_what_a_pc_does_not_tell_is_none(make_board: MakeBoard) -> None:
    profile = devices.probe("auto", make_board("pc"))
    assert profile.device == "local"
    assert (profile.soc, profile.kernel, profile.governor) == (None, None, None)
    assert (profile.power_mode, profile.throttled) == (None, None)


@pytest.mark.parametrize("online", ["", "all", "0-", "-3"])
def test_a_list_of_cores_that_is_none_is_not_believed(make_board: MakeBoard, online: str) -> None:
    root = make_board("pi-4")
    (root / "sys/devices/system/cpu/online").write_text(online, encoding="utf-8")
    cores = devices.probe("rpi", root).cores
    assert cores is not None
    assert cores >= 1


@pytest.mark.parametrize(
    ("script", "mode"),
    [
        ("printf 'NV Power Mode: MAXN_SUPER\\n2\\n'", "MAXN_SUPER (2)"),
        ("printf 'NVPM WARN: fan mode is not set!\\nNV Power Mode: 15W\\n0\\n'", "15W (0)"),
        ("printf 'NV Power Mode: MODE_30W\\n'", "MODE_30W"),
        ("echo 'NVPM ERROR: failed to read PARAM'; exit 1", None),
        ("exit 0", None),
        ("printf '\\377\\376'", None),
    ],
)
def test_the_power_mode_is_what_nvpmodel_prints(
    make_board: MakeBoard, make_program: MakeProgram, script: str, mode: str | None
) -> None:
    make_program("nvpmodel", f'[ "$1" = -q ] || exit 9\n{script}')
    assert devices.probe("jetson", make_board("orin-nano")).power_mode == mode


def test_a_missing_nvpmodel_leaves_the_power_mode_unknown(make_board: MakeBoard) -> None:
    assert devices.probe("jetson", make_board("orin-nano")).power_mode is None


def test_an_nvpmodel_that_hangs_is_not_waited_for(
    make_board: MakeBoard, make_program: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_program("nvpmodel", "exec sleep 60")
    monkeypatch.setattr(jetson, "NVPMODEL_TIMEOUT_S", 0.1)
    begin = time.monotonic()
    assert devices.probe("jetson", make_board("orin-nano")).power_mode is None
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("name", "throttled"),
    [
        ("orin-nano", ("oc3: 7 events since boot",)),
        ("agx-orin", ()),
        ("thor", ("oc2: 8 events since boot", "oc3: 813 events since boot")),
        ("pi-4", ("under-voltage since boot", "throttled since boot")),
        ("pi-5", None),  # sysfs tells nothing there, and no vcgencmd is installed
    ],
)
def test_the_throttle_state_before_the_run_is_told(
    make_board: MakeBoard, name: str, throttled: tuple[str, ...] | None
) -> None:
    assert devices.probe("auto", make_board(name)).throttled == throttled


@pytest.mark.parametrize(
    ("bits", "throttled"),
    [
        ("0x0", ()),
        ("0x50005", ("under-voltage now", "throttled now")),
        ("0xa0008", ("soft temperature limit now", "frequency capped since boot")),
    ],
)
def test_vcgencmd_tells_the_throttle_state_where_sysfs_does_not(
    make_board: MakeBoard,
    vcgencmd: Callable[..., Path],
    bits: str,
    throttled: tuple[str, ...],
) -> None:
    vcgencmd(get_throttled=f"throttled={bits}\n")
    assert devices.probe("rpi", make_board("pi-5")).throttled == throttled
