"""The recorder keeps what sensors said, and no sensor can end or bend a benchmark."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from inspect import signature
from itertools import count
from pathlib import Path

import pytest

from edge_bench.core.series import POWER, TEMPERATURE, Telemetry, decode_series
from edge_bench.devices.sensors import Channel, FileSensor, FileSource
from edge_bench.telemetry import recorder as recording
from edge_bench.telemetry.recorder import Recorder, recorder_of
from edge_bench.timing.measure import measure

MakeBoard = Callable[[str], Path]
MILLISECOND = 1_000_000


class Sensor:
    """A source of one rail, whose readings are given."""

    channels: tuple[Channel, ...] = (Channel(quantity=POWER, name="VDD_IN"),)

    def __init__(self, readings: Iterator[int | None], period_s: float = 0.1) -> None:
        self.period_s = period_s
        self._readings = readings
        self.closed = False

    def read(self) -> list[int | None]:
        return [next(self._readings)]

    def close(self) -> None:
        self.closed = True


def all_rails(rails: list[str]) -> tuple[tuple[str, ...], str | None]:
    return tuple(rails), "all"


def values(telemetry: Telemetry | None, name: str) -> list[int | None]:
    assert telemetry is not None
    (series,) = [s for part in telemetry.samples for s in part.series if s.name == name]
    return decode_series(series.values)


def times_us(telemetry: Telemetry | None) -> list[int]:
    assert telemetry is not None
    return [time or 0 for time in decode_series(telemetry.samples[0].time_us)]


def test_each_source_is_read_when_its_time_has_come() -> None:
    now = iter(range(0, 10**12, MILLISECOND))  # a clock that moves 1 ms whenever it is asked
    fast, slow = Sensor(count(), 0.1), Sensor(count(), 0.5)
    slow.channels = (Channel(quantity=TEMPERATURE, name="soc"),)
    recorder = Recorder([fast, slow], all_rails, clock=lambda: next(now))
    for _ in range(500):
        recorder.tick(all_sources=False)
    telemetry = recorder.finish()
    # 500 ticks of 2 ms and 2 more for every reading: a little above a second.
    assert len(values(telemetry, "VDD_IN")) == pytest.approx(11, abs=1)
    assert len(values(telemetry, "soc")) == pytest.approx(4, abs=1)
    first, *others = times_us(telemetry)[:-1]
    late = [time - first - 100_000 * number for number, time in enumerate(others, start=1)]
    assert max(late) < 5_000, "lateness must not add up"


def test_phases_and_readings_share_a_clock() -> None:
    now = iter(range(5 * 10**9, 10**12, MILLISECOND))
    recorder = Recorder([Sensor(count())], all_rails, clock=lambda: next(now))
    with recorder.phase("latency"):
        recorder.tick()
    telemetry = recorder.finish()
    assert telemetry is not None
    (phase,) = telemetry.phases
    inside = times_us(telemetry)[0]
    assert 0 < phase.begin_us < inside < phase.end_us


def test_the_thread_reads_ten_times_a_second_for_under_1_percent_of_a_core(
    make_board: MakeBoard,
) -> None:
    with recorder_of("jetson", make_board("agx-orin")) as recorder:
        recorder.idle(1.5)
    telemetry = recorder.finish()
    assert telemetry is not None
    assert telemetry.cpu_ns is not None
    (phase,) = telemetry.phases
    assert telemetry.cpu_ns / 1e3 < 0.01 * (phase.end_us - phase.begin_us)
    assert 8 <= len(times_us(telemetry)) <= 18


def test_a_wall_clock_that_jumps_back_changes_nothing(
    make_board: MakeBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(back)))
    monkeypatch.setattr(time, "time_ns", lambda: next(back) * 10**9)
    # Bound when the module was read, so no patch reaches it: the clock of the timings.
    clocks = [signature(function).parameters["clock"].default for function in (Recorder, measure)]
    assert clocks == [time.perf_counter_ns] * 2
    with recorder_of("jetson", make_board("orin-nano")) as recorder:
        recorder.idle(0.35)
    telemetry = recorder.finish()
    assert telemetry is not None
    (phase,) = telemetry.phases
    assert phase.begin_us >= 0.06e6  # A fifth of the time is for settling.
    assert 0.25e6 <= phase.end_us - phase.begin_us <= 30e6
    assert times_us(telemetry) == sorted(set(times_us(telemetry)))


def test_a_sensor_that_never_answers_is_absent(make_board: MakeBoard) -> None:
    with recorder_of("jetson", make_board("orin-nano")) as recorder:
        pass
    telemetry = recorder.finish()
    assert telemetry is not None
    names = {series.name for part in telemetry.samples for series in part.series}
    assert {"cpu-thermal", "VDD_IN", "oc3"} <= names
    assert not {"cv0-thermal", "cv1-thermal", "cv2-thermal"} & names


def test_a_machine_without_sensors_has_no_telemetry_and_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with recorder_of("local", tmp_path) as recorder:
        assert threading.active_count() == before
        recorder.idle(60)  # There is no power whose baseline to wait for.
    assert recorder.finish() is None


def test_a_board_without_power_does_not_wait_for_an_idle_baseline(make_board: MakeBoard) -> None:
    with recorder_of("rpi", make_board("pi-4")) as recorder:
        recorder.idle(60)
    telemetry = recorder.finish()
    assert telemetry is not None
    assert (telemetry.total_rails, telemetry.total_is, telemetry.phases) == ((), None, ())


def test_a_sensor_that_raises_keeps_what_it_said() -> None:
    def readings() -> Iterator[int | None]:
        yield from (5, 6)
        raise RuntimeError("the driver went away")

    other = Sensor(count())
    other.channels = (Channel(quantity=POWER, name="VDD_SOC"),)
    recorder = Recorder([Sensor(readings()), other], all_rails)
    for _ in range(4):
        recorder.tick()
    telemetry = recorder.finish()
    assert values(telemetry, "VDD_IN") == [5, 6]
    assert values(telemetry, "VDD_SOC") == [0, 1, 2, 3, 4]


def test_a_sensor_whose_file_empties_is_missing_from_then_on(
    make_board: MakeBoard, rail_file: Callable[[Path, str], Path]
) -> None:
    root = make_board("orin-nano")
    recorder = recorder_of("jetson", root)
    recorder.tick()
    rail_file(root, "VDD_IN").write_text("", encoding="utf-8")
    recorder.tick()
    telemetry = recorder.finish()
    assert values(telemetry, "VDD_IN") == [5040 * 1008, None, None]
    assert values(telemetry, "VDD_SOC") == [5032 * 288] * 3


def test_a_sensor_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "JOIN_S", 0.05)
    stuck, release = threading.Event(), threading.Event()

    def readings() -> Iterator[int | None]:
        yield 5
        stuck.set()
        release.wait(30)
        yield 6

    sensor = Sensor(readings(), period_s=0.01)
    with Recorder([sensor], all_rails) as recorder:
        assert stuck.wait(30)
        telemetry = recorder.finish()
    release.set()
    for thread in threading.enumerate():
        if thread.name == "telemetry":
            thread.join()
    assert values(telemetry, "VDD_IN") == [5]


def test_the_thread_and_the_files_end_with_a_benchmark_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "temp"
    path.write_text("50000", encoding="utf-8")
    sensor = FileSensor(
        channel=Channel(quantity=TEMPERATURE, name="soc"), paths=(path,), combine=int
    )
    source = FileSource([sensor])
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Recorder([source], all_rails):
        raise ZeroDivisionError
    assert threading.active_count() == before
    assert source.read() == []


def test_a_recording_that_has_ended_stays_as_it_is() -> None:
    sensor = Sensor(count())
    with Recorder([sensor], all_rails) as recorder:
        telemetry = recorder.finish()
    assert recorder.finish() is telemetry
    assert sensor.closed
