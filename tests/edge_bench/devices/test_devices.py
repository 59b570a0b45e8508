"""Boards are told apart by recorded trees of their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_bench import devices
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.devices import generic

# As `cat` shows them on the boards; the device tree ends its strings with NUL.
JETSON = {
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\nID=ubuntu\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
}
RASPBERRY_PI = {
    "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
}
PC = {
    "sys/class/dmi/id/product_name": "OptiPlex 7090\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i7-10700 CPU @ 2.90GHz\n",
    "etc/os-release": "PRETTY_NAME=Fedora\n",
}
TREES = {"jetson": JETSON, "rpi": RASPBERRY_PI, "local": PC}


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The recorded tree of the device that the test names."""
    for name, text in TREES[request.param].items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


on = {name: pytest.mark.parametrize("root", [name], indirect=True) for name in TREES}


@pytest.mark.parametrize(("root", "device"), [(name, name) for name in TREES], indirect=["root"])
@pytest.mark.parametrize("by_name", [True, False])
def test_a_board_is_found_by_its_name_and_by_auto(root: Path, device: str, by_name: bool) -> None:
    assert devices.probe(device if by_name else "auto", root).device == device


@on["jetson"]
def test_a_jetson_is_described_from_its_files(root: Path) -> None:
    profile = devices.probe("jetson", root)
    assert profile.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert profile.cpu == "ARMv8 Processor rev 1 (v8l)"
    assert profile.os == "Ubuntu 22.04.5 LTS"
    assert profile.governor == "schedutil"


@on["rpi"]
def test_a_raspberry_pi_is_described_from_its_files(root: Path) -> None:
    profile = devices.probe("rpi", root)
    assert profile.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert profile.os == "Debian GNU/Linux 12 (bookworm)"
    assert profile.governor == "ondemand"


@on["local"]
def test_a_pc_is_named_by_its_firmware(root: Path) -> None:
    profile = devices.probe("local", root)
    assert profile.board == "OptiPlex 7090"
    assert profile.cpu == "Intel(R) Core(TM) i7-10700 CPU @ 2.90GHz"
    assert profile.os == "Fedora"


@on["jetson"]
def test_any_machine_can_be_measured_as_local(root: Path) -> None:
    assert devices.probe("local", root).device == "local"


@pytest.mark.parametrize(
    ("root", "device", "found"),
    [
        ("local", "jetson", r"found OptiPlex 7090 \(.*i7-10700.*--device local"),
        ("local", "rpi", r"found OptiPlex 7090 \(.*--device local"),
        ("rpi", "jetson", r"found Raspberry Pi 5 Model B Rev 1\.0 \(.*--device rpi"),
        ("jetson", "rpi", r"found NVIDIA Jetson Orin Nano .*--device jetson"),
    ],
    indirect=["root"],
)
def test_a_device_that_is_not_here_is_met_with_what_is(root: Path, device: str, found: str) -> None:
    with pytest.raises(CapabilityError, match=rf"--device {device}: .*{found}"):
        devices.probe(device, root)


def test_a_machine_that_tells_nothing_is_still_named(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="found no board name"):
        devices.probe("jetson", tmp_path)


def test_an_unknown_device_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--device coral: expected auto or one of jetson, rpi, l"):
        devices.probe("coral", tmp_path)


def test_what_cannot_be_probed_is_none(tmp_path: Path) -> None:
    profile = devices.probe("auto", tmp_path)
    assert (profile.device, profile.board, profile.governor) == ("local", None, None)


def test_this_machine_is_described_without_a_recorded_tree() -> None:
    profile = devices.probe("auto")
    assert profile.cores == os.cpu_count()
    assert profile.memory_bytes is not None
    assert profile.memory_bytes > 2**20


@pytest.mark.parametrize("content", [None, b"", b"\0", b" \n"])
def test_a_missing_or_blank_file_reads_as_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert generic.read_text(tmp_path / "file") is None


def test_an_unreadable_path_reads_as_none(tmp_path: Path) -> None:
    assert generic.read_text(tmp_path) is None


def test_bytes_that_are_not_utf8_are_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xffboard")
    assert generic.read_text(tmp_path / "file") == "�board"


@pytest.mark.parametrize(
    "compatible",
    ["pine64,rockpro64\0rockchip,rk3399\0", "nvidia,p4242\0nvidia,gb10\0", "brcm,bcm958742k\0"],
)
def test_another_board_with_a_device_tree_is_local(tmp_path: Path, compatible: str) -> None:
    path = tmp_path / "proc/device-tree/compatible"
    path.parent.mkdir(parents=True)
    path.write_text(compatible, encoding="utf-8")
    assert devices.probe("auto", tmp_path).device == "local"
