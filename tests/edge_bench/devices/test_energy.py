"""Energy per image is an integral that can be done by hand, and its uncertainty holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.core.errors import InconclusiveError
from edge_bench.core.series import (
    CLOCK,
    POWER,
    TEMPERATURE,
    Phase,
    Samples,
    Series,
    Telemetry,
    encode_series,
)
from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement
from edge_bench.report.device_summary import device_rows
from edge_bench.telemetry.energy import Energy, energy_per_image

SECOND = 1_000_000
TENTH = SECOND // 10
IDLE = (0.0, 3.0)
LOAD = (5.0, 7.0)
Power = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def timed(calls: int = 100, batch_size: int = 1) -> Measurement:
    return Measurement(
        batch_size=batch_size, warmup_runs=0, first_ns=1, latency_ns=(20_000_000,) * calls
    )


def recorded(
    times_s: Sequence[float] | NDArray[np.float64],
    rails: dict[str, Sequence[int | None]],
    *,
    load: tuple[float, float] = LOAD,
    idle: tuple[float, float] = IDLE,
    resolution: int | None = None,
) -> Telemetry:
    series = tuple(
        Series(quantity=POWER, name=name, values=encode_series(values), resolution=resolution)
        for name, values in rails.items()
    )
    times = encode_series(round(1e6 * t) for t in times_s)
    phases = tuple(
        Phase(name=name, begin_us=round(1e6 * a), end_us=round(1e6 * b))
        for name, (a, b) in (("idle", idle), ("latency", load))
    )
    return Telemetry(
        samples=(Samples(period_us=TENTH, time_us=times, series=series),),
        phases=phases,
        total_rails=tuple(rails),
        total_is="a test's",
    )


def sampled(power: Power, *, resolution: int | None = None) -> Telemetry:
    """Power in microwatts as a function of seconds, read ten times a second for eight."""
    times = np.arange(0.03, 8, 0.1)
    values = [round(float(value)) for value in power(times)]
    return recorded(times, {"VDD_IN": values}, resolution=resolution)


def energy(telemetry: Telemetry, measurement: Measurement | None = None) -> Energy:
    found = energy_per_image(telemetry, "latency", measurement or timed())
    assert found is not None
    return found


def steps(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """5 W until 4 s, and 8 W from then on."""
    return np.where(times < 4, 5e6, 8e6)


@pytest.mark.parametrize(("calls", "batch_size", "mj"), [(100, 1, 60), (10, 64, 600 / 64)])
def test_energy_is_power_above_idle_times_time_by_image(
    calls: int, batch_size: int, mj: float
) -> None:
    # 3 W above idle for 2 s are 6 J.
    found = energy(sampled(steps), timed(calls, batch_size))
    assert found.per_image_mj == pytest.approx(mj, rel=1e-9)
    assert (found.power_mw, found.idle_mw) == pytest.approx((8000, 5000))
    assert found.samples == 20


def test_a_ramp_is_integrated_over_the_phase() -> None:
    def ramp(times: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(times < 4, 5e6, 5e6 + 1e6 * (times - 4))

    # Above idle: from 1 W at 5 s to 3 W at 7 s, 4 J. A drift that the integral follows costs no
    # certainty, but for the differences of neighbours.
    found = energy(sampled(ramp))
    assert found.per_image_mj == pytest.approx(40, rel=2e-3)
    assert found.uncertainty_mj < 0.02 * found.per_image_mj


def test_the_load_beyond_a_phase_is_not_in_it() -> None:
    # Idle ends at 3 s, and the next reading, a millisecond later, is already that of the load.
    times = [*np.arange(0.05, 3, 0.1), *np.arange(3.001, 8, 0.1)]
    power = [5_000_000 if t < 3 else 8_000_000 for t in times]
    assert energy(recorded(times, {"VDD_IN": power})).idle_mw == pytest.approx(5000)


def test_uneven_times_weigh_what_they_span() -> None:
    # Twelve readings of 9 W crowd into 0.2 s; the mean of readings would say far more than 5.4 W.
    crowd = list(np.linspace(5.9, 6.1, 12))
    times = [*np.arange(0.05, 5.9, 0.1), *crowd, *np.arange(6.2, 8, 0.1)]
    power = [9_000_000 if 5.89 < t < 6.11 else 5_000_000 for t in times]
    found = energy(recorded(times, {"VDD_IN": power}))
    assert found.power_mw == pytest.approx(5000 + 4000 * 0.27 / 2, rel=0.02)


def test_the_rails_of_a_total_are_summed() -> None:
    times = np.arange(0.03, 8, 0.1)
    low, high = [round(v) for v in steps(times)], [1_000_000] * len(times)
    found = energy(recorded(times, {"A": low, "B": high}))
    assert (found.idle_mw, found.power_mw) == pytest.approx((6000, 9000))


def test_a_rail_within_the_total_is_not_counted_twice() -> None:
    times = np.arange(0.03, 8, 0.1)
    whole = [round(v) for v in steps(times)]
    both = recorded(times, {"VDD_IN": whole, "VDD_CPU": [2_000_000] * len(times)})
    found = energy(replace(both, total_rails=("VDD_IN",)))
    assert (found.idle_mw, found.power_mw) == pytest.approx((5000, 8000))


def test_a_reading_that_lacks_a_rail_is_left_out_whole() -> None:
    times = np.arange(0.03, 8, 0.1)
    low: list[int | None] = [round(v) for v in steps(times)]
    high: list[int | None] = [1_000_000] * len(times)
    low[60] = high[63] = None
    found = energy(recorded(times, {"A": low, "B": high}))
    assert found.power_mw == pytest.approx(9000)
    assert found.samples == 18


def test_constant_power_is_known_to_the_sensor_s_step() -> None:
    found = energy(sampled(steps, resolution=40_000))
    # Half a step to each side, evenly: 40 mW / sqrt(12), for load and idle; 2 s, 100 images.
    expected = 2 * np.sqrt(2) * 40 / np.sqrt(12) * 2 / 100
    assert found.uncertainty_mj == pytest.approx(expected)
    assert energy(sampled(steps)).uncertainty_mj == 0


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_two_standard_errors_hold_the_truth_about_19_times_in_20(correlation: float) -> None:
    rng = np.random.default_rng(0)

    def noisy(times: NDArray[np.float64]) -> NDArray[np.float64]:
        white = rng.normal(0, 3e5, len(times))
        noise = np.empty_like(white)
        last = 0.0
        for index, value in enumerate(white):
            idle = times[index] < 4  # A baseline that wanders; the load's power is what it is.
            last = (correlation if idle else 0) * last + value
            noise[index] = last
        return steps(times) + noise

    runs = [energy(sampled(noisy)) for _ in range(300)]
    held = [abs(run.per_image_mj - 60) <= run.uncertainty_mj for run in runs]
    assert 0.85 <= np.mean(held) <= 0.995


def test_an_energy_below_idle_s_noise_may_be_negative() -> None:
    found = energy(sampled(lambda times: np.where(times < 4, 5.01e6, 5e6)))
    assert found.per_image_mj == pytest.approx(-0.2)


def test_without_power_there_is_no_energy() -> None:
    assert energy_per_image(None, "latency", timed()) is None
    bare = Telemetry(samples=sampled(steps).samples, phases=())
    assert energy_per_image(bare, "latency", timed()) is None


def test_too_few_readings_ask_for_more_seconds() -> None:
    times = np.arange(0.03, 8, 0.1)
    power = [round(v) for v in steps(times)]
    with pytest.raises(InconclusiveError, match=r"5 or more readings .* latency, came 4; .*--sec"):
        energy(recorded(times, {"VDD_IN": power}, load=(5.0, 5.4)))
    with pytest.raises(InconclusiveError, match=r"phase idle, came 0; .*--idle-seconds 0.75"):
        energy(recorded(times, {"VDD_IN": power}, idle=(0.0, 0.01)))


def test_a_latency_too_short_for_a_reading_has_no_rails(
    make_report: Callable[..., Report],
) -> None:
    times = np.arange(0.03, 8, 0.1)
    telemetry = recorded(times, {"VDD_IN": [round(v) for v in steps(times)]}, load=(4.0, 4.001))
    phases = (*telemetry.phases, Phase(name="throughput", begin_us=4_100_000, end_us=7_900_000))
    report = replace(make_report(), telemetry=replace(telemetry, phases=phases))
    rows = dict(device_rows(report))
    assert rows["power"].endswith("8.00 W in throughput")
    assert not [name for name in rows if "rails" in name]


def test_a_clock_is_told_by_its_ends_while_timed_and_a_temperature_by_its_highest(
    make_report: Callable[..., Report],
) -> None:
    times = np.arange(0.03, 8, 0.1)
    whole = recorded(times, {"VDD_IN": [round(v) for v in steps(times)]})
    # 2 GHz before the load, 1,500 MHz in it, and 1,499 at its end.
    clock = np.where(times < LOAD[0], 2_000_000, np.where(times < 6.9, 1_500_000, 1_499_000))
    told = Series(quantity=CLOCK, name="cpu", values=encode_series(clock.tolist()))
    warming = encode_series(range(40_000, 40_000 + 100 * len(times), 100))
    heat = Series(quantity=TEMPERATURE, name="soc", values=warming)
    (block,) = whole.samples
    telemetry = replace(whole, samples=(replace(block, series=(*block.series, told, heat)),))
    rows = dict(device_rows(replace(make_report(), telemetry=telemetry)))
    assert rows["clock while timed (cpu)"] == "1499 to 1500 MHz"
    assert rows["highest temperature (soc)"] == "47.9 °C"


def test_without_an_idle_phase_there_is_no_baseline() -> None:
    whole = sampled(steps)
    phases = tuple(phase for phase in whole.phases if phase.name != "idle")
    alone = Telemetry(samples=whole.samples, phases=phases, total_rails=whole.total_rails)
    with pytest.raises(InconclusiveError, match="no idle power was recorded; give --idle-seconds"):
        energy(alone)


@pytest.mark.parametrize(("silent", "gap"), [((5.4, 6.5), "1.2"), ((6.2, 9), "0.87")])
def test_a_sensor_that_falls_silent_gives_no_energy(silent: tuple[float, float], gap: str) -> None:
    times = np.arange(0.03, 8, 0.1)
    power = [
        None if silent[0] < t < silent[1] else round(v)
        for t, v in zip(times, steps(times), strict=True)
    ]
    with pytest.raises(InconclusiveError, match=rf"said nothing for {gap} s of the phase latency"):
        energy(recorded(times, {"VDD_IN": power}))


@pytest.mark.parametrize("failed", [(55, 60), (61, 62, 63, 64)])
def test_failed_readings_are_bridged(failed: tuple[int, ...]) -> None:
    """Up to five periods from one reading to the next."""
    times = np.arange(0.03, 8, 0.1)
    power = [None if i in failed else round(v) for i, v in enumerate(steps(times))]
    assert energy(recorded(times, {"VDD_IN": power})).per_image_mj == pytest.approx(60)
