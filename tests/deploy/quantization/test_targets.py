"""`--target auto`: which integers the machine at hand wants, from recorded trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.quantization.targets import TARGETS, target_here
from edge_bench.core.errors import InputError
from edge_bench.core.saturation import OTHER_WAYS

CPU = "processor\t: 0\nmodel name\t: a CPU\nflags\t\t: fpu sse2 avx2{}\nbogomips\t: 1\n"
JETSON = {
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
}


@pytest.mark.parametrize(
    ("machine", "files", "target", "seen"),
    [
        ("x86_64", {"proc/cpuinfo": CPU.format(" avx512_vnni")}, "x86-vnni", "avx512_vnni"),
        ("x86_64", {"proc/cpuinfo": CPU.format(" avx_vnni")}, "x86-vnni", "avx_vnni"),
        ("x86_64", {"proc/cpuinfo": CPU.format("")}, "x86", "without VNNI"),
        # No flag may be found inside another one's name, or in another line.
        ("x86_64", {"proc/cpuinfo": CPU.format(" avx_vnni_int8")}, "x86", "without VNNI"),
        (
            "x86_64",
            {"proc/cpuinfo": CPU.format("").replace("a CPU", "avx_vnni")},
            "x86",
            "without",
        ),
        ("AMD64", {}, "x86", "cannot be read"),
        ("aarch64", {}, "arm", "aarch64"),
        ("arm64", {}, "arm", "arm64"),
        ("aarch64", JETSON, "tensorrt", "Jetson Orin Nano"),
    ],
)
def test_the_target_follows_from_the_machine(
    machine: str, files: dict[str, str], target: str, seen: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found, why = target_here(tmp_path, machine)
    assert found == target
    assert seen in why


def test_a_machine_that_no_target_is_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"auto: .*riscv64; name one of x86, x86-vnni, arm"):
        target_here(tmp_path, "riscv64")


def test_this_machine_has_a_target() -> None:
    assert target_here()[0] in TARGETS


def test_every_target_of_8_bit_weights_is_known_to_saturate_without_vnni() -> None:
    assert OTHER_WAYS.keys() == {n for n, target in TARGETS.items() if not target.reduce_range}
