"""A benchmark on a board's tree reports what its sensors said, and gates on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.errors import InconclusiveError, InputError
from edge_bench.core.gate import Gate
from edge_bench.core.spec import Report
from edge_bench.devices import vcgencmd as asking
from edge_bench.files.seals.content import sealed
from edge_bench.files.sets import AdversarialSet
from edge_bench.files.store import read_json, to_json, write_json
from edge_bench.files.unpack import unpacked
from edge_bench.options.bench import BenchOptions
from edge_bench.policy.gate import check, read_conditions
from edge_bench.report.device_summary import device_figures, device_rows
from edge_bench.report.doubts import doubts_in
from edge_bench.report.summary import summarise
from edge_bench.runs.one_run import run

MakeBoard = Callable[[str], Path]
RailFile = Callable[[Path, str], Path]
Bench = Callable[..., Report]


@pytest.fixture
def bench_on(
    make_model: Callable[..., Path],
    opened: AdversarialSet,
    quick: Callable[..., BenchOptions],
) -> Bench:
    """Run on the tree `root`; `between` is called after idle and before the timing."""

    def bench(root: Path, between: Callable[[], None] = lambda: None, **options: Any) -> Report:
        def progress(done: int, total: int, text: str) -> None:
            if done == total:
                between()

        return run(make_model(), [opened], quick(**options), progress, root=root)

    return bench


@pytest.fixture(scope="module")
def kept() -> dict[str, Report]:
    """A report takes seconds, and nothing can change it."""
    return {}


@pytest.fixture
def loaded(
    make_board: MakeBoard, rail_file: RailFile, bench_on: Bench, kept: dict[str, Report]
) -> Report:
    """An Orin Nano that draws 1008 mA of its input when idle, and 1608 mA when at work."""
    if "loaded" in kept:
        return kept["loaded"]
    root = make_board("orin-nano")

    def at_work() -> None:
        rail_file(root, "VDD_IN").write_text("1608\n", encoding="utf-8")

    kept["loaded"] = bench_on(root, at_work, idle_seconds=1.2, min_seconds=0.9, warmup_runs=2000)
    return kept["loaded"]


def test_energy_per_image_is_what_the_rail_drew_more_than_when_idle(loaded: Report) -> None:
    figures = device_figures(loaded)
    assert figures["idle_power_mw"] == pytest.approx(5040 * 1.008, rel=1e-3)
    # The loop around the calls is in the energy too, so it is a little above their sum.
    for name, timing in (("latency", loaded.latency), ("throughput", loaded.throughput)):
        images = timing.batch_size * len(timing.latency_ns)
        least = 5.040 * 0.600 * sum(timing.latency_ns) / 1e6 / images  # W times ms
        assert least <= figures["energy_mj"][name] < 1.5 * least
        assert figures["power_mw"][name] == pytest.approx(5040 * 1.608, rel=1e-3)
        assert 0 < figures["energy_uncertainty_mj"][name] < 0.1 * figures["energy_mj"][name]


def test_the_table_names_energy_power_temperature_clocks_and_throttling(loaded: Report) -> None:
    rows = dict(device_rows(loaded))
    assert rows["power"] == "5.08 W idle, 8.10 W in latency, 8.10 W in throughput"
    assert rows["power is"] == "VDD_IN, which feeds the others"
    assert rows["largest of 2 rails in latency"] == "VDD_SOC 1.45 W, VDD_CPU_GPU_CV 0.93 W"
    assert rows["highest temperature (cpu-thermal)"] == "48.5 °C"
    assert rows["clock while timed (gpu 17000000.gpu)"] == "306 MHz"
    assert rows["throttling"] == "none"
    assert " mJ, give or take " in rows["energy per image above idle (batch 1)"]


def test_a_report_with_telemetry_is_read_back_as_it_was(loaded: Report, tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", loaded, False)
    assert read_json(tmp_path / "report.json", Report, "a report") == loaded
    assert json.loads(json.dumps(summarise(loaded), allow_nan=False)) == summarise(loaded)
    assert len(to_json(loaded.telemetry)) < 10_000


def test_an_older_report_lacks_it_all_and_is_still_read(loaded: Report, tmp_path: Path) -> None:
    plain = json.loads(to_json(loaded))
    del plain["telemetry"]
    for field in ("soc", "kernel", "power_mode", "throttled"):
        del plain["device"][field]
    (tmp_path / "old.json").write_text(json.dumps(sealed(Report, plain)), encoding="utf-8")
    old = read_json(tmp_path / "old.json", Report, "a report")
    assert (old.telemetry, old.device.soc, old.device.throttled) == (None, None, None)
    assert device_rows(old) == []


def test_a_report_whose_telemetry_was_edited_is_refused(loaded: Report, tmp_path: Path) -> None:
    plain = json.loads(to_json(loaded))
    plain["telemetry"]["samples"][0]["series"][0]["values"] += " 5"
    (tmp_path / "edited.json").write_text(json.dumps(sealed(Report, plain)), encoding="utf-8")
    with pytest.raises(InputError, match=r"edited\.json: .*values of VDD_IN"):
        read_json(tmp_path / "edited.json", Report, "a report")


def test_a_machine_without_sensors_reports_none(tmp_path: Path, bench_on: Bench) -> None:
    report = bench_on(tmp_path, idle_seconds=60)
    assert report.telemetry is None
    assert device_rows(report) == []
    told = {"energy_mj", "power_mw", "temperature_max_c", "clock_mhz", "throttled"}
    assert not told & set(summarise(report))


def test_a_pi_4_reports_temperature_and_throttling_but_no_power(
    make_board: MakeBoard, bench_on: Bench
) -> None:
    figures = device_figures(bench_on(make_board("pi-4"), idle_seconds=60))
    assert figures["temperature_max_c"] == {"cpu-thermal": pytest.approx(51.121)}
    assert figures["throttled"] == []
    assert not {"energy_mj", "power_mw", "idle_power_mw", "power_is"} & set(figures)


def test_a_pi_5_s_power_is_said_to_be_that_of_its_rails(
    make_board: MakeBoard,
    bench_on: Bench,
    vcgencmd: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "POWER_S", 0.1)
    folder = vcgencmd(get_throttled="throttled=0x0\n")

    def at_work() -> None:
        answer = folder / "pmic_read_adc"
        text = answer.read_text(encoding="utf-8").replace("0.56259000A", "2.56259000A")
        answer.write_text(text, encoding="utf-8")

    report = bench_on(
        make_board("pi-5"), at_work, idle_seconds=1.2, min_seconds=0.9, warmup_runs=2000
    )
    figures = device_figures(report)
    assert "the board's input is not measured" in figures["power_is"]
    more = figures["power_mw"]["latency"] - figures["idle_power_mw"]
    assert more == pytest.approx(2000 * 0.76798460, rel=0.01)
    assert figures["throttled"] == []


def test_too_short_a_run_says_how_to_get_an_energy(make_board: MakeBoard, bench_on: Bench) -> None:
    report = bench_on(make_board("orin-nano"), idle_seconds=0.85)
    assert "energy_mj" not in device_figures(report)
    told = dict(device_rows(report))["energy per image above idle (batch 1)"]
    assert told.startswith("not known: expected 5 or more readings of power in the phase latency")


def test_a_power_sensor_that_vanishes_leaves_the_rest_of_the_report(
    make_board: MakeBoard, rail_file: RailFile, bench_on: Bench
) -> None:
    root = make_board("orin-nano")

    def vanish() -> None:
        rail_file(root, "VDD_IN").write_text("", encoding="utf-8")

    report = bench_on(root, vanish, idle_seconds=1.2, min_seconds=0.9, warmup_runs=2000)
    figures = device_figures(report)
    assert "energy_mj" not in figures
    assert "temperature_max_c" in figures
    assert len(report.latency.latency_ns) >= 3


def test_throttling_during_the_run_is_told_and_doubted(
    make_board: MakeBoard, bench_on: Bench, opened: AdversarialSet
) -> None:
    root = make_board("orin-nano")
    (counter,) = root.glob("sys/class/hwmon/hwmon*/oc3_event_cnt")

    def throttle() -> None:
        counter.write_text("12\n", encoding="utf-8")

    report = bench_on(root, throttle, idle_seconds=0)
    assert dict(device_rows(report))["throttling"] == "oc3 (5 events)"
    doubts = [text for text in doubts_in(report) if "throttled" in text]
    assert len(doubts) == 1
    assert "oc3 (5 events)" in doubts[0]
    (violation,) = check(report, Gate(no_throttling=True))
    assert "oc3 (5 events)" in violation.sentence


def test_a_negative_idle_time_is_refused(quick: Callable[..., BenchOptions]) -> None:
    with pytest.raises(InputError, match="--idle-seconds -1: expected a time of 0 or more"):
        quick(idle_seconds=-1)


def test_an_energy_within_its_limit_passes_and_one_above_fails(loaded: Report) -> None:
    energy = device_figures(loaded)["energy_mj"]["latency"]
    assert check(loaded, Gate(max_energy_mj=2 * energy)) == []
    (violation,) = check(loaded, Gate(max_energy_mj=energy / 2))
    assert violation.condition == "--max-energy-mj"
    assert violation.sentence.startswith("energy per image is ")
    assert " above --max-energy-mj " in violation.sentence


@pytest.mark.parametrize("share", [-0.5, 0.5])
def test_an_energy_as_near_its_limit_as_it_is_uncertain_decides_nothing(
    loaded: Report, share: float
) -> None:
    figures = device_figures(loaded)
    near = figures["energy_mj"]["latency"] + share * figures["energy_uncertainty_mj"]["latency"]
    with pytest.raises(InconclusiveError, match="does not decide --max-energy-mj"):
        check(loaded, Gate(max_energy_mj=near))
    # What is proven to fail must not hide behind it.
    both = check(loaded, Gate(max_energy_mj=near, max_size_bytes=1))
    assert [violation.condition for violation in both] == ["--max-size-bytes"]


@pytest.mark.parametrize(
    ("condition", "option"),
    [({"max_energy_mj": 1e9}, "--max-energy-mj"), ({"no_throttling": True}, "--no-throttling")],
)
def test_what_no_sensor_told_is_a_violation(
    loaded: Report, condition: dict[str, Any], option: str
) -> None:
    (violation,) = check(replace(loaded, telemetry=None), Gate(**condition))
    assert violation.condition == option
    assert "was not measured" in violation.sentence


def test_a_cool_board_passes_the_gate(loaded: Report) -> None:
    assert check(loaded, Gate(no_throttling=True)) == []


def test_an_old_sticky_bit_decides_nothing(make_board: MakeBoard, bench_on: Bench) -> None:
    # The Pi 4 had too little voltage before: its bit cannot tell whether it had again.
    report = bench_on(make_board("pi-4"))
    assert dict(device_rows(report))["throttling"].startswith("none seen; under-voltage (had occ")
    with pytest.raises(InconclusiveError, match=r"under-voltage .*restart the device"):
        check(report, Gate(no_throttling=True))


def test_the_gate_s_command_and_file_know_both_conditions(
    loaded: Report, tmp_path: Path, invoke: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "report.json"
    write_json(path, loaded, False)
    assert invoke("gate", path, "--no-throttling", "--max-energy-mj", 1000)[0] == 0
    assert invoke("gate", path, "--max-energy-mj", 1e-6)[0] == 1
    conditions = tmp_path / "gate.toml"
    conditions.write_text("no_throttling = true\nmax_energy_mj = 3\n", encoding="utf-8")
    assert read_conditions(conditions, {}) == Gate(no_throttling=True, max_energy_mj=3)


def test_a_bundle_carries_both_conditions(
    make_model: Callable[..., Path], tmp_path: Path, invoke: Callable[..., tuple[int, str, str]]
) -> None:
    out = tmp_path / "model.ardx"
    conditions = ("--no-throttling", "--max-energy-mj", 3)
    assert invoke("bundle", make_model(), "--out", out, *conditions)[0] == 0
    with unpacked(out) as parts:
        assert parts.gate == Gate(no_throttling=True, max_energy_mj=3)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("no_throttling = 1", "expected true or false for no_throttling, came 1"),
        ("max_energy_mj = true", "expected a number for max_energy_mj, came True"),
        ("max_energy_mj = 0", "--max-energy-mj 0: expected a value above 0"),
        ("max_size_bytes = 1.5", "expected a whole number for max_size_bytes, came 1.5"),
    ],
)
def test_a_condition_of_the_wrong_kind_is_refused(tmp_path: Path, line: str, expected: str) -> None:
    conditions = tmp_path / "gate.toml"
    conditions.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=expected):
        read_conditions(conditions, {})
