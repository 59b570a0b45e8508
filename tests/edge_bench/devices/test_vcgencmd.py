"""The firmware's answers count only where they are whole; the rest is silence, not an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_bench import devices
from edge_bench.core.series import FLAGS, POWER, TEMPERATURE
from edge_bench.devices import vcgencmd as asking

MakeBoard = Callable[[str], Path]
MakeProgram = Callable[[str, str], Path]
Vcgencmd = Callable[..., Path]

# Current times voltage of each pair of the recorded answer, by hand.
RAILS_UW = {
    "3V7_WL_SW": round(0.05855580 * 3.61069200e6),
    "3V3_SYS": round(0.06148359 * 3.29982600e6),
    "DDR_VDDQ": 0,
    "VDD_CORE": round(0.56259000 * 0.76798460e6),
}


def test_a_pi_5_s_rails_are_current_times_voltage(vcgencmd: Vcgencmd) -> None:
    vcgencmd()
    source = asking.power_source()
    names = [channel.name for channel in source.channels]
    # EXT5V and BATT have a voltage alone.
    assert dict(zip(names, source.read(), strict=True)) == RAILS_UW
    assert {channel.quantity for channel in source.channels} == {POWER}


def test_a_rail_that_an_answer_lacks_is_none_this_time(vcgencmd: Vcgencmd) -> None:
    folder = vcgencmd()
    source = asking.power_source()
    answer = folder / "pmic_read_adc"
    whole = answer.read_text(encoding="utf-8")
    broken = whole.replace("volt(15)=0.76798460V", "volt(15)=nanV")
    answer.write_text(broken, encoding="utf-8")
    names = [channel.name for channel in source.channels]
    assert source.read()[names.index("VDD_CORE")] is None
    assert source.read()[names.index("3V3_SYS")] == RAILS_UW["3V3_SYS"]
    answer.write_text(whole, encoding="utf-8")
    assert source.read()[names.index("VDD_CORE")] == RAILS_UW["VDD_CORE"]


@pytest.mark.parametrize(
    "script",
    [
        "echo 'error=1 error_msg=\"Command not registered\"'",
        "echo 'VCHI initialization failed' >&2; exit 255",
        "echo 'VCHI initialization failed'",
        "exit 0",
        "printf '\\377\\376\\000'",
        "kill -9 $$",
        "echo 'VDD_CORE_A current(7)=0.5A'",
        "echo 'throttled='; echo 'temp='",
    ],
)
def test_an_odd_answer_leaves_the_sensor_out(make_program: MakeProgram, script: str) -> None:
    make_program("vcgencmd", script)
    for source in (asking.power_source(), asking.throttle_source(), asking.temperature_source()):
        assert source.channels == ()
    assert asking.throttle_bits() is None


def test_a_missing_vcgencmd_leaves_the_sensors_out() -> None:
    assert asking.power_source().channels == ()
    assert asking.throttle_bits() is None


def test_a_vcgencmd_that_cannot_be_run_leaves_the_sensors_out(make_program: MakeProgram) -> None:
    make_program("vcgencmd", "").write_bytes(b"\x7fELF of another machine")
    assert asking.power_source().channels == ()


def test_a_vcgencmd_that_hangs_is_asked_once(
    make_program: MakeProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(asking, "TIMEOUT_S", 0.2)
    make_program("vcgencmd", f"echo asked >> {tmp_path}/log; exec sleep 60")
    begin = time.monotonic()
    firmware = asking.Vcgencmd()
    assert [firmware.ask("get_throttled") for _ in range(5)] == [None] * 5
    assert time.monotonic() - begin < 30
    assert (tmp_path / "log").read_text(encoding="utf-8") == "asked\n"


@pytest.mark.parametrize("failure", ["exit 1", "echo 'error=1 error_msg=\"unknown\"'"])
def test_a_vcgencmd_that_keeps_failing_is_given_up(
    make_program: MakeProgram, tmp_path: Path, failure: str
) -> None:
    make_program("vcgencmd", f"echo asked >> {tmp_path}/log; {failure}")
    firmware = asking.Vcgencmd()
    for _ in range(10):
        assert firmware.ask("pmic_read_adc") is None
    asked = (tmp_path / "log").read_text(encoding="utf-8").count("asked")
    assert asked == asking.PATIENCE


def test_a_vcgencmd_that_fails_now_and_then_is_not_given_up(
    make_program: MakeProgram, tmp_path: Path
) -> None:
    make_program("vcgencmd", f"rm {tmp_path}/fails && exit 1; echo volt=1")
    firmware = asking.Vcgencmd()
    for _ in range(asking.PATIENCE + 1):
        (tmp_path / "fails").touch()
        assert firmware.ask("measure_volts") is None
        assert firmware.ask("measure_volts") == "volt=1\n"


@pytest.mark.parametrize(
    ("answer", "bits"),
    [
        ("throttled=0x0\n", 0),
        ("throttled=0x50005\n", 0x50005),
        ("throttled=0xE0008", 0xE0008),
        ("throttled=0x\n", None),
        ("throttled=0xzz\n", None),
        ("throttled=5\n", None),
        ("throttled=0x5 0x6\n", None),
    ],
)
def test_the_bits_are_read_from_a_whole_answer_alone(
    vcgencmd: Vcgencmd, answer: str, bits: int | None
) -> None:
    vcgencmd(get_throttled=answer)
    assert asking.throttle_bits() == bits


@pytest.mark.parametrize(
    ("answer", "value"), [("temp=51.0'C\n", 51000), ("temp=62.8'C", 62800), ("temp=-'C", None)]
)
def test_the_firmware_s_temperature_stands_in_for_a_missing_zone(
    make_board: MakeBoard, vcgencmd: Vcgencmd, answer: str, value: int | None
) -> None:
    vcgencmd(measure_temp=answer)
    root = make_board("pi-5")
    (root / "sys/class/thermal/thermal_zone0").unlink()
    sources = devices.DEVICES["rpi"].sources(root)
    found = [s.read() for s in sources if any(c.quantity == TEMPERATURE for c in s.channels)]
    assert found == ([] if value is None else [[value]])


def test_sysfs_is_asked_before_vcgencmd(make_board: MakeBoard, vcgencmd: Vcgencmd) -> None:
    vcgencmd(get_throttled="throttled=0x1\n", measure_temp="temp=99.0'C\n")
    sources = devices.DEVICES["rpi"].sources(make_board("pi-4"))
    flags = [s.read() for s in sources if any(c.quantity == FLAGS for c in s.channels)]
    zones = [c.name for s in sources for c in s.channels if c.quantity == TEMPERATURE]
    assert flags == [[0x50000]]
    assert zones == ["cpu-thermal"]
