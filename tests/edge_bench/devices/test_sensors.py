"""What is read from each board's tree is what its files hold, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_bench import devices
from edge_bench.core.series import CLOCK, EVENTS, FLAGS, POWER, STATE, TEMPERATURE
from edge_bench.devices.sensors import Source

MakeBoard = Callable[[str], Path]
Readings = dict[str, int | None]


@pytest.fixture
def sources_of(make_board: MakeBoard) -> Callable[[str], list[Source]]:
    def make(name: str) -> list[Source]:
        root = make_board(name)
        return devices.DEVICES[devices.probe("auto", root).device].sources(root)

    return make


def readings(sources: list[Source], quantity: str) -> Readings:
    """One reading of every channel of that quantity."""
    return {
        channel.name: value
        for source in sources
        for channel, value in zip(source.channels, source.read(), strict=True)
        if channel.quantity == quantity
    }


@pytest.mark.parametrize(
    ("name", "power_uw"),
    [
        ("orin-nano", {"VDD_IN": 5040 * 1008, "VDD_CPU_GPU_CV": 5032 * 184, "VDD_SOC": 5032 * 288}),
        (
            "agx-orin",
            {
                "VDD_GPU_SOC": 19736 * 160,
                "VDD_CPU_CV": 19736 * 20,
                "VIN_SYS_5V0": 4968 * 953,
                "VDDQ_VDD2_1V8AO": 4968 * 80,
            },
        ),
        (
            "thor",
            {
                "VDD_GPU": -19704 * 20,
                "VDD_CPU_SOC_MSS": 19704 * 330,
                "VIN_SYS_5V0": 4992 * 1300,
                "VIN": 23_150_000,
            },
        ),
        ("pi-4", {}),
        ("pi-5", {}),
        ("pc", {}),
    ],
)
def test_power_is_volts_times_amperes_by_rail(
    sources_of: Callable[[str], list[Source]], name: str, power_uw: Readings
) -> None:
    assert readings(sources_of(name), POWER) == power_uw


def test_the_step_of_a_rail_follows_from_its_shunt(
    sources_of: Callable[[str], list[Source]],
) -> None:
    # 40 microvolts over 5 milliohms are 8 milliamperes; over 2 milliohms, 20.
    steps = {
        (name, channel.name): channel.resolution
        for name in ("orin-nano", "thor")
        for channel in sources_of(name)[0].channels
        if channel.quantity == POWER
    }
    assert steps["orin-nano", "VDD_IN"] == 8 * 5040
    assert steps["thor", "VDD_GPU"] == 20 * 19704
    assert steps["thor", "VIN"] is None


@pytest.mark.parametrize(
    ("device", "rails", "total"),
    [
        ("jetson", ["VDD_CPU_GPU_CV", "VDD_IN", "VDD_SOC"], ("VDD_IN",)),
        ("jetson", ["VDD_GPU", "VIN_SYS_5V0", "VIN"], ("VIN",)),
        ("jetson", ["POM_5V_IN", "POM_5V_GPU"], ("POM_5V_IN",)),
        ("jetson", ["VDD_GPU_SOC", "VIN_SYS_5V0"], ("VDD_GPU_SOC", "VIN_SYS_5V0")),
        ("jetson", [], ()),
        ("rpi", ["VDD_CORE", "HDMI"], ("VDD_CORE", "HDMI")),
        ("rpi", [], ()),
        ("local", [], ()),
    ],
)
def test_the_total_is_the_rail_that_feeds_the_others_or_their_sum(
    device: str, rails: list[str], total: tuple[str, ...]
) -> None:
    chosen, words = devices.DEVICES[device].total(rails)
    assert chosen == total
    assert (words is None) == (not total)
    if len(chosen) > 1:
        assert words is not None
        assert "the board's input is not measured" in words


@pytest.mark.parametrize(
    ("name", "millidegrees"),
    [
        (
            "orin-nano",
            {
                "cpu-thermal": 48531,
                "gpu-thermal": 47906,
                "cv0-thermal": None,
                "cv1-thermal": None,
                "cv2-thermal": None,
                "soc0-thermal": 46875,
                "tj-thermal": 48531,
            },
        ),
        # -256 degrees say that the sensor is off.
        ("agx-orin", {"cpu-thermal": 45500, "gpu-thermal": None, "tboard-thermal": 36250}),
        ("pi-4", {"cpu-thermal": 51121}),
        ("pi-5", {"cpu-thermal": 58600}),
        ("pc", {}),
    ],
)
def test_a_zone_that_cannot_be_read_is_none_beside_those_that_can(
    sources_of: Callable[[str], list[Source]], name: str, millidegrees: Readings
) -> None:
    assert readings(sources_of(name), TEMPERATURE) == millidegrees


def test_a_zone_speaks_again_once_its_unit_has_power(make_board: MakeBoard) -> None:
    root = make_board("agx-orin")
    sources = devices.DEVICES["jetson"].sources(root)
    zone = root / "sys/class/thermal/thermal_zone1/temp"
    assert readings(sources, TEMPERATURE)["gpu-thermal"] is None
    zone.write_text("44000\n", encoding="utf-8")
    assert readings(sources, TEMPERATURE)["gpu-thermal"] == 44000
    # From what a board stands in the cold to what no chip survives.
    for told in (-55_001, -55_000, 150_000, 150_001):
        zone.write_text(f"{told}\n", encoding="utf-8")
        known = told if -55_000 <= told <= 150_000 else None
        assert readings(sources, TEMPERATURE)["gpu-thermal"] == known


def test_zones_of_one_type_keep_apart(make_board: MakeBoard) -> None:
    root = make_board("agx-orin")
    for zone in root.glob("sys/class/thermal/thermal_zone*/type"):
        zone.write_text("cpu-thermal\n", encoding="utf-8")
    names = readings(devices.DEVICES["jetson"].sources(root), TEMPERATURE)
    assert len(names) == 3


def test_rails_of_one_name_keep_apart(make_board: MakeBoard) -> None:
    root = make_board("agx-orin")
    for label in root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in2_label"):
        label.write_text("VDD\n", encoding="utf-8")
    power = readings(devices.DEVICES["jetson"].sources(root), POWER)
    assert (power["VDD"], power["VDD (1-0041)"]) == (19736 * 20, 4968 * 80)


def test_of_a_server_s_many_clocks_some_are_read(tmp_path: Path) -> None:
    for number in range(200):
        policy = tmp_path / f"sys/devices/system/cpu/cpufreq/policy{number}"
        policy.mkdir(parents=True)
        (policy / "scaling_cur_freq").write_text("2000000\n", encoding="utf-8")
    sources = devices.DEVICES["local"].sources(tmp_path)
    assert 1 <= len(readings(sources, CLOCK)) <= 16


@pytest.mark.parametrize(
    ("name", "khz"),
    [
        (
            "orin-nano",
            {"cpu policy0": 1510400, "cpu policy4": 729600, "gpu 17000000.gpu": 306000},
        ),
        ("thor", {"cpu policy0": 972000, "gpu gpu-gpc-0": 1575000}),
        ("pi-5", {"cpu policy0": 2400000}),
        ("pc", {}),
    ],
)
def test_clocks_are_read_in_kilohertz(
    sources_of: Callable[[str], list[Source]], name: str, khz: Readings
) -> None:
    assert readings(sources_of(name), CLOCK) == khz


def test_a_jetson_s_throttling_is_counted_and_shown(
    sources_of: Callable[[str], list[Source]],
) -> None:
    sources = sources_of("orin-nano")
    assert readings(sources, EVENTS) == {"oc1": 0, "oc2": 0, "oc3": 7}
    assert readings(sources, STATE) == {"cpu-throttle-alert": 0}  # a fan's speed is none


@pytest.mark.parametrize("text", ["", "\n", "x", "12 34", "1e6", "0x10"])
def test_a_file_that_empties_or_holds_no_number_reads_as_none(
    make_board: MakeBoard, rail_file: Callable[[Path, str], Path], text: str
) -> None:
    root = make_board("orin-nano")
    sources = devices.DEVICES["jetson"].sources(root)
    rail_file(root, "VDD_IN").write_text(text, encoding="utf-8")
    power = readings(sources, POWER)
    assert power["VDD_IN"] is None
    assert power["VDD_SOC"] == 5032 * 288


def test_a_channel_without_one_of_its_files_is_left_out(
    make_board: MakeBoard, rail_file: Callable[[Path, str], Path]
) -> None:
    root = make_board("orin-nano")
    rail_file(root, "VDD_IN").unlink()
    assert "VDD_IN" not in readings(devices.DEVICES["jetson"].sources(root), POWER)


def test_the_bits_of_get_throttled_are_hexadecimal_in_sysfs(
    sources_of: Callable[[str], list[Source]],
) -> None:
    assert readings(sources_of("pi-4"), FLAGS) == {"get_throttled": 0x50000}


def test_this_machine_s_own_sensors_are_read_or_absent() -> None:
    for source in devices.DEVICES["local"].sources(devices.ROOT):
        assert len(source.read()) == len(source.channels)
        source.close()
