"""Energy per image from sampled power, above idle, with its uncertainty.

The energy of a phase is the trapezoid rule's over the readings of the total power within it, the
first and the last held to the phase's ends (beyond them the load is another), minus the mean power
of the idle phase times the phase's duration, divided by its images. The uncertainty is two
standard errors, of three independent parts added in squares:

- load: readings scatter about the mean of the phase. Successive differences tell by how much
  (von Neumann 1941: half their mean square), so that a slow drift, which the integral follows, is
  not counted as scatter.
- idle: the standard error of the baseline's mean, for the count of readings that would be
  independent (n (1 - r) / (1 + r), r the correlation of neighbours): there a drift does count,
  since the baseline is carried over to another time.
- resolution: a reading is off by up to half the sensor's least step, where that is known, and
  the same in all readings at worst; once for the load and once for idle.

An error of the sensor's scale (shunt, calibration) is not in it, nor power that no rail measures,
nor the lag of a chip that averages over the past: warm-up and settling come before each phase, and
more seconds make it small.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InconclusiveError
from edge_bench.core.series import POWER, Phase, Samples, Telemetry, decode_series
from edge_bench.core.timings import Measurement

LEAST_SAMPLES = 5
LONGEST_GAP = 5.0
"""Periods without a reading, above which a phase was not measured."""

SLACK = 1.25
"""More seconds are asked for than the readings take, since those of idle settle first."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy per image above idle.

    Attributes:
        per_image_mj: millijoules.
        uncertainty_mj: two standard errors of it, see above.
        power_mw: mean total power of the phase.
        idle_mw: mean total power of the idle phase.
        samples: readings within the phase.
    """

    per_image_mj: float
    uncertainty_mj: float
    power_mw: float
    idle_mw: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Power of one phase in microwatts."""

    readings: FloatArray
    mean: float
    seconds: float


def energy_per_image(
    telemetry: Telemetry | None, phase: str, timed: Measurement, more: str = "--seconds"
) -> Energy | None:
    """Energy per image of the calls that were timed in `phase`; None where no power is told.

    `more` is the option that makes the phase longer, for sentences.

    Raises:
        InconclusiveError: the readings cannot give it: too few, or a gap among them.
    """
    if telemetry is None or not telemetry.total_rails:
        return None
    block = _power_samples(telemetry)
    times, power, step = _total(block, telemetry.total_rails)
    idle = _part(telemetry, "idle", times, power, block.period_us, "--idle-seconds")
    load = _part(telemetry, phase, times, power, block.period_us, more)
    images = timed.batch_size * len(timed.latency_ns)
    scale = load.seconds / images / 1e3  # Microwatts to millijoules per image.
    deviation = sqrt(_load_variance(load) + _idle_variance(idle) + 2 * step**2 / 12)
    return Energy(
        per_image_mj=(load.mean - idle.mean) * scale,
        uncertainty_mj=2 * deviation * scale,
        power_mw=load.mean / 1e3,
        idle_mw=idle.mean / 1e3,
        samples=len(load.readings),
    )


def _power_samples(telemetry: Telemetry) -> Samples:
    """The rails of a board's total are read together."""
    for samples in telemetry.samples:
        names = {s.name for s in samples.series if s.quantity == POWER}
        if names >= set(telemetry.total_rails):
            return samples
    raise InconclusiveError(
        f"telemetry: expected power of {', '.join(telemetry.total_rails)} in the report; "
        "run ardx bench again"
    )


def _total(samples: Samples, rails: tuple[str, ...]) -> tuple[FloatArray, FloatArray, float]:
    """Seconds, microwatts where every rail was read, and the least step of their sum."""
    times = np.array(decode_series(samples.time_us), dtype=np.float64) / 1e6
    chosen = [s for s in samples.series if s.quantity == POWER and s.name in rails]
    # None becomes NaN, and so does a sum that lacks a rail.
    values = [np.array(decode_series(s.values), dtype=np.float64) for s in chosen]
    total = np.sum(values, axis=0)
    known = np.isfinite(total)
    step = sqrt(sum((s.resolution or 0) ** 2 for s in chosen))
    return times[known], total[known], step


def _part(
    telemetry: Telemetry,
    name: str,
    times: FloatArray,
    power: FloatArray,
    period_us: int,
    option: str,
) -> _Part:
    phase = next((p for p in telemetry.phases if p.name == name), None)
    if phase is None:
        raise InconclusiveError(f"energy: no {name} power was recorded; give {option} some seconds")
    begin, end = phase.begin_us / 1e6, phase.end_us / 1e6
    inside = (times > begin) & (times < end)
    count = int(inside.sum())
    if count < LEAST_SAMPLES:
        needed = SLACK * (LEAST_SAMPLES + 1) * period_us / 1e6
        raise InconclusiveError(
            f"energy: expected {LEAST_SAMPLES} or more readings of power in the phase {name}, came "
            f"{count}; run ardx bench with {option} {needed:g} or more"
        )
    _check_gaps(phase, times, period_us / 1e6)
    readings, seconds = power[inside], end - begin
    at = np.concatenate([[begin], times[inside], [end]])
    held = np.concatenate([readings[:1], readings, readings[-1:]])
    mean = float(np.sum((held[1:] + held[:-1]) / 2 * np.diff(at))) / seconds
    return _Part(readings=readings, mean=mean, seconds=seconds)


def _check_gaps(phase: Phase, times: FloatArray, period: float) -> None:
    begin, end = phase.begin_us / 1e6, phase.end_us / 1e6
    within = np.clip(times, begin, end)
    longest = float(np.diff(np.concatenate([[begin], within, [end]])).max())
    if longest > LONGEST_GAP * period:
        raise InconclusiveError(
            f"energy: the power sensor said nothing for {longest:.2g} s of the phase {phase.name}; "
            "close other programs, look after the sensor, and run ardx bench again"
        )


def _load_variance(load: _Part) -> float:
    scatter = float(np.mean(np.diff(load.readings) ** 2)) / 2
    return scatter / len(load.readings)


def _idle_variance(idle: _Part) -> float:
    readings = idle.readings
    away = readings - readings.mean()
    squares = float(np.sum(away**2))
    if squares == 0:
        return 0.0
    correlation = min(max(float(np.sum(away[1:] * away[:-1])) / squares, 0.0), 0.9)
    independent = len(readings) * (1 - correlation) / (1 + correlation)
    return squares / (len(readings) - 1) / max(independent, 1.0)
