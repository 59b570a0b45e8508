"""What a report's telemetry says of the device, for people and machines.

A sensor that is missing leaves its figure out; no figure is ever a zero for want of a sensor.
"""

from __future__ import annotations

from typing import Any

from edge_bench.core.errors import InconclusiveError
from edge_bench.core.series import CLOCK, POWER, TEMPERATURE, Telemetry, decode_series
from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement
from edge_bench.statistics.path import as_measurement
from edge_bench.telemetry.energy import Energy, energy_per_image
from edge_bench.telemetry.throttling import throttling

TIMED, PICTURES = ("latency", "throughput"), "pictures"
SHOWN_RAILS = 4


def device_figures(report: Report) -> dict[str, Any]:
    """The figures that there are, as plain JSON values."""
    telemetry = report.telemetry
    if telemetry is None:
        return {}
    figures: dict[str, Any] = {}
    energies = {name: _energy(telemetry, name, timed) for name, timed in _timings(report)}
    known = {name: value for name, value in energies.items() if isinstance(value, Energy)}
    if known:
        figures["power_is"] = telemetry.total_is
        figures["idle_power_mw"] = round(next(iter(known.values())).idle_mw, 1)
        figures["power_mw"] = {name: round(e.power_mw, 1) for name, e in known.items()}
        figures["energy_mj"] = {name: e.per_image_mj for name, e in known.items()}
        figures["energy_uncertainty_mj"] = {n: e.uncertainty_mj for n, e in known.items()}
    rails = _mean_power_mw(telemetry)
    if rails:
        figures["rail_power_mw"] = rails
    hottest = _extremes(telemetry, TEMPERATURE)
    if hottest:
        figures["temperature_max_c"] = {name: high / 1e3 for name, (_, high) in hottest.items()}
    clocks = _extremes(telemetry, CLOCK, TIMED)
    if clocks:
        figures["clock_mhz"] = {
            name: [low / 1e3, high / 1e3] for name, (low, high) in clocks.items()
        }
    evidence = throttling(telemetry)
    if evidence is not None:
        figures["throttled"] = list(evidence.seen)
    return figures


def device_rows(report: Report) -> list[list[str]]:
    """Rows of figure and value; none without telemetry."""
    telemetry = report.telemetry
    if telemetry is None:
        return []
    figures, rows = device_figures(report), []
    for name, timed in _timings(report):
        energy = _energy(telemetry, name, timed)
        what = f"energy per image above idle (batch {timed.batch_size})"
        if name == PICTURES:
            what = "energy per picture from file to logits, above idle"
        if isinstance(energy, Energy):
            value = f"{energy.per_image_mj:.4g} mJ, give or take {energy.uncertainty_mj:.2g}"
            rows.append([what, value])
        elif energy is not None:
            rows.append([what, f"not known: {energy}"])
    if "power_mw" in figures:
        powers = [f"{value / 1e3:.2f} W in {name}" for name, value in figures["power_mw"].items()]
        rows.append(["power", ", ".join([f"{figures['idle_power_mw'] / 1e3:.2f} W idle", *powers])])
        rows.append(["power is", figures["power_is"]])
        # Of latency alone, which may have had too short a time for a reading.
        means = figures.get("rail_power_mw", {})
        rails = {n: mw for n, mw in means.items() if telemetry.total_rails != (n,)}
        largest = sorted(rails.items(), key=lambda item: -item[1])[:SHOWN_RAILS]
        told = ", ".join(f"{name} {value / 1e3:.2f} W" for name, value in largest)
        if rails:
            rows.append([f"largest of {len(rails)} rails in latency", told])
    if "temperature_max_c" in figures:
        name, value = max(figures["temperature_max_c"].items(), key=lambda item: item[1])
        rows.append([f"highest temperature ({name})", f"{value:.1f} °C"])
    for name, (low, high) in figures.get("clock_mhz", {}).items():
        span = f"{high:.0f} MHz" if low == high else f"{low:.0f} to {high:.0f} MHz"
        rows.append([f"clock while timed ({name})", span])
    if "throttled" in figures:
        rows.append(["throttling", ", ".join(figures["throttled"]) or _unthrottled(telemetry)])
    return rows


def _unthrottled(telemetry: Telemetry) -> str:
    evidence = throttling(telemetry)
    hidden = evidence.hidden if evidence else ()
    return f"none seen; {', '.join(hidden)}" if hidden else "none"


def _timings(report: Report) -> list[tuple[str, Measurement]]:
    timed = list(zip(TIMED, (report.latency, report.throughput), strict=True))
    return timed + ([(PICTURES, as_measurement(report.pictures))] if report.pictures else [])


def _energy(telemetry: Telemetry, phase: str, timed: Measurement) -> Energy | str | None:
    """The energy, None without sensors of power, or the sentence that says why it is unknown."""
    more = "--pictures that take, in seconds," if phase == PICTURES else "--seconds"
    try:
        return energy_per_image(telemetry, phase, timed, more)
    except InconclusiveError as error:
        return str(error).removeprefix("energy: ")


def _mean_power_mw(telemetry: Telemetry) -> dict[str, float]:
    """Mean of the readings of each rail while latency was timed."""
    found = _readings(telemetry, POWER, ("latency",))
    return {name: round(sum(values) / len(values) / 1e3, 1) for name, values in found.items()}


def _extremes(
    telemetry: Telemetry, quantity: str, phases: tuple[str, ...] = ()
) -> dict[str, tuple[int, int]]:
    """Least and largest value by sensor."""
    found = _readings(telemetry, quantity, phases)
    return {name: (min(values), max(values)) for name, values in found.items()}


def _readings(telemetry: Telemetry, quantity: str, phases: tuple[str, ...]) -> dict[str, list[int]]:
    """Readings by sensor, where there are any; within phases of these names, or in all the run."""
    spans = [(p.begin_us, p.end_us) for p in telemetry.phases if p.name in phases]
    found: dict[str, list[int]] = {}
    for samples in telemetry.samples:
        times = [time or 0 for time in decode_series(samples.time_us)]
        kept = [not phases or any(b <= time <= e for b, e in spans) for time in times]
        for series in samples.series:
            if series.quantity != quantity:
                continue
            decoded = zip(decode_series(series.values), kept, strict=True)
            values = [value for value, keep in decoded if keep and value is not None]
            if values:
                found[series.name] = values
    return found
