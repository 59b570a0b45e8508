"""The section of speed and the board: latency, throughput, power, temperature, clocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.series import (
    CLOCK,
    EVENTS,
    FLAGS,
    POWER,
    STATE,
    TEMPERATURE,
    Samples,
    Series,
    Telemetry,
    decode_series,
    series_array,
)
from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement
from edge_bench.devices.vcgencmd import OCCURRED
from edge_bench.page.charts import Line, histogram, lines
from edge_bench.page.facts import PERCENTILES, latency
from edge_bench.page.parts import Figure, Row, Section, Table, number, shown
from edge_bench.report.device_summary import device_rows
from edge_bench.report.summary import SWEEP_HEADER, performance_rows, sweep_rows
from edge_bench.statistics.stats import percentile_ms

FloatArray = NDArray[np.float64]

BINS, PARTS, POINTS, DRAWN = 40, 12, 300, 6
"""Of a histogram; of a run over which drift is told; drawn of a line; lines of a figure."""
SENSORS = {
    POWER: ("Power", "W", 1e6),
    TEMPERATURE: ("Temperature", "°C", 1e3),
    CLOCK: ("Clocks", "MHz", 1e3),
}
NO_SENSOR = "No sensor of this machine told its power, temperature, clocks or throttling."


def speed_section(report: Report) -> Section:
    """Latency and its drift, throughput, and what the board's sensors said meanwhile."""
    figures = [
        _distribution(report.latency),
        _drift("Latency over the run", "drift", _milliseconds(report.latency), "ms a call"),
        _throughput(report.throughput),
    ]
    if report.soak:
        soaked = series_array(report.soak.latency_ns) / 1e6
        title = f"Latency over a soak of {report.soak.minutes:g} min"
        figures.append(_drift(title, "soak", soaked, "ms a call"))
    figures += [figure for key in SENSORS for figure in _sensors(report.telemetry, key)]
    tables = [
        Table(
            caption="Speed and memory",
            header=("figure", "value"),
            rows=tuple(
                (name, value.replace("see above", "see Doubts"))
                for name, value in performance_rows(report)
            ),
        )
    ]
    if rows := device_rows(report):
        told = tuple((shown_long(name), shown_long(value)) for name, value in rows)
        tables.append(
            Table(caption="The board while it ran", header=("figure", "value"), rows=told)
        )
    if rows := sweep_rows(report):
        tables.append(
            Table(
                caption="Settings swept", header=tuple(SWEEP_HEADER), rows=tuple(map(tuple, rows))
            )
        )
    return Section(
        key="speed",
        title="Speed, power and heat",
        paragraphs=() if report.telemetry else (NO_SENSOR,),
        figures=tuple(figures),
        tables=tuple(tables),
    )


def shown_long(text: str) -> str:
    """As `shown`, of a sentence with names in it: word by word, at any length."""
    return " ".join(shown(word) for word in text.split(" "))


def _milliseconds(timed: Measurement) -> FloatArray:
    return np.asarray(timed.latency_ns, dtype=np.float64) / 1e6


def _distribution(timed: Measurement) -> Figure:
    samples = _milliseconds(timed)
    # Of a long tail the last 200th would squeeze all the rest into one bar.
    end = float(np.quantile(samples, 0.995, method="higher"))
    begin = float(samples.min())
    edges = np.linspace(begin, end if end > begin else begin + 1, BINS + 1)
    counts = np.histogram(samples, edges)[0]
    beyond = int((samples > edges[-1]).sum())
    marks = [(f"p{round(100 * q)}", percentile_ms(timed, q)) for q in (0.5, 0.95)]
    title = f"Latency of {len(samples):,} calls, batch {timed.batch_size}"
    description = (
        f"Half of the calls end within {marks[0][1]:.3g} ms and 95 of 100 within "
        f"{marks[1][1]:.3g} ms; {beyond:,} calls above {edges[-1]:.3g} ms are not drawn"
    )
    svg = histogram(title, description, "latency", edges.tolist(), counts.tolist(), marks)
    rows = []
    for fact in (latency(timed, quantile) for quantile in PERCENTILES):
        ends = "too few calls"
        if fact.low is not None and fact.high is not None:
            ends = f"{number(fact.low)} to {number(fact.high)} ms"
        rows.append((fact.name, f"{number(fact.value)} ms", ends))
    rows.append(("slowest call", f"{number(samples.max())} ms", ""))
    header = ("latency", "value", "95% interval")
    table = Table(caption=title, header=header, rows=tuple(rows))
    return Figure(title=title, description=description, svg=svg, table=table)


def _drift(title: str, key: str, samples: FloatArray, unit: str) -> Figure:
    """Median of each part of a run, with the middle nine tenths around it."""
    parts = np.array_split(samples, min(PARTS, len(samples)))
    ends = np.cumsum([len(part) for part in parts])
    low, middle, high = ([float(np.quantile(part, q)) for part in parts] for q in (0.05, 0.5, 0.95))
    change = middle[-1] / max(middle[0], 1e-9) - 1
    description = (
        f"From the first to the last part of the run the median changed by {change:+.1%}, from "
        f"{number(middle[0])} to {number(middle[-1])} {unit}"
    )
    x = (ends - np.array([len(part) for part in parts]) / 2).tolist()
    svg = lines(
        title,
        description,
        key,
        [("median (shaded: 5 to 95 %)", x, middle)],
        ("call", unit),
        band=(low, high),
    )
    rows = tuple(
        (f"to call {end:,}", f"{number(m)}", f"{number(b)} to {number(e)}")
        for end, m, b, e in zip(ends.tolist(), middle, low, high, strict=True)
    )
    table = Table(caption=title, header=("part", f"median, {unit}", "5 to 95 %"), rows=rows)
    return Figure(title=title, description=description, svg=svg, table=table)


def _throughput(timed: Measurement) -> Figure:
    rates = timed.batch_size / np.maximum(_milliseconds(timed), 1e-6) * 1e3
    title = f"Throughput over the run, batch {timed.batch_size}"
    return _drift(title, "throughput", rates, "images/s")


def _sensors(telemetry: Telemetry | None, quantity: str) -> list[Figure]:
    """A figure of all sensors of one quantity over time; none where there are none."""
    if telemetry is None:
        return []
    name, unit, scale = SENSORS[quantity]
    read = [
        (series, *_values(samples, series, scale))
        for samples in telemetry.samples
        for series in samples.series
        if series.quantity == quantity
    ]
    read = [(series, x, y) for series, x, y in read if len(y)]
    if not read:
        return []
    read.sort(key=lambda item: (item[0].name not in telemetry.total_rails, -float(item[2].max())))
    drawn: list[Line] = [(shown(s.name), *_thinned(x, y)) for s, x, y in read[:DRAWN]]
    spans = [(shown(p.name), p.begin_us / 1e6, p.end_us / 1e6) for p in telemetry.phases]
    marks = throttle_times(telemetry)
    series, _, y = read[0]
    title = f"{name} over the run"
    throttled = f"; moments at which throttling began are marked: {len(marks)}" if marks else ""
    fewer = f"; {len(read) - DRAWN} more sensors are in the table" if len(read) > DRAWN else ""
    description = (
        f"{shown(series.name)} lay between {number(y.min())} and {number(y.max())} {unit}"
        f"{throttled}{fewer}"
    )
    svg = lines(title, description, quantity, drawn, ("s", unit), spans=spans, marks=marks)
    rows = tuple(row for s, x, y in read for row in _by_phase(telemetry, s.name, x, y))
    header = ("sensor", "while", f"least, {unit}", f"mean, {unit}", f"most, {unit}")
    table = Table(caption=title, header=header, rows=rows)
    return [Figure(title=title, description=description, svg=svg, table=table)]


def throttle_times(telemetry: Telemetry) -> list[float]:
    """Seconds at which throttling began, as far as the readings tell."""
    found = []
    for samples in telemetry.samples:
        times = decode_series(samples.time_us)
        for series in samples.series:
            if series.quantity not in (EVENTS, STATE, FLAGS):
                continue
            before: int | None = None
            for time, value in zip(times, decode_series(series.values), strict=True):
                if value is None or time is None:
                    continue
                if _began(series.quantity, before, value):
                    found.append(time / 1e6)
                before = value
    return sorted(set(found))


def _began(quantity: str, before: int | None, now: int) -> bool:
    """Does the reading `now` tell of throttling that the one before it did not?

    What was counted, or had occurred, by the first reading may be of any time since boot.
    """
    if quantity == FLAGS:
        if before is None:
            return bool(now & (1 << OCCURRED) - 1)
        # A bit that says "has occurred" tells nothing new of what was seen to be so.
        return bool(now & ~before & ~(before << OCCURRED))
    return now > before if before is not None else now > 0 and quantity != EVENTS


def _values(samples: Samples, series: Series, scale: float) -> tuple[FloatArray, FloatArray]:
    times = np.array(decode_series(samples.time_us), dtype=np.float64) / 1e6
    values = np.array(decode_series(series.values), dtype=np.float64) / scale
    known = np.isfinite(values)
    return times[known], values[known]


def _thinned(x: FloatArray, y: FloatArray) -> tuple[Sequence[float], Sequence[float]]:
    """Means of as many neighbours as leaves few enough points to draw."""
    parts = min(POINTS, len(x))
    means = [[float(p.mean()) for p in np.array_split(values, parts)] for values in (x, y)]
    return means[0], means[1]


def _by_phase(telemetry: Telemetry, name: str, x: FloatArray, y: FloatArray) -> list[Row]:
    spans = [(p.name, p.begin_us / 1e6, p.end_us / 1e6) for p in telemetry.phases]
    rows = []
    for phase, begin, end in spans or [("all", -np.inf, np.inf)]:
        inside = y[(x >= begin) & (x <= end)]
        if len(inside):
            told = [f"{number(value)}" for value in (inside.min(), inside.mean(), inside.max())]
            rows.append((shown(name), shown(phase), *told))
    return rows
