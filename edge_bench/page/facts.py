"""The figures of a report as numbers: what headlines, tables and CSV tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement
from edge_bench.report.device_summary import device_figures
from edge_bench.statistics.metrics import (
    BoolArray,
    class_names,
    decode_mask,
    labels_of,
    worst_case_mask,
)
from edge_bench.statistics.stats import (
    median_interval,
    percentile_ms,
    quantile_interval,
    wilson_interval,
)
from edge_bench.timing.measure import images_per_second

WORST = "worst case"
PERCENTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One figure.

    Attributes:
        metric: what it is, such as `accuracy`.
        name: of what, such as an attack.
        value: in `unit`.
        low, high: its 95% interval; None where there is none.
        samples: it is of so many.
    """

    metric: str
    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    samples: int | None = None


def correct(report: Report) -> dict[str, BoolArray]:
    """(N,) right or wrong by name: clean, each set in its order, and the worst case."""
    if report.clean_mask is None:
        return {}
    found = {"clean": decode_mask(report.clean_mask)}
    found |= {result.name: decode_mask(result.mask) for result in report.sets}
    worst = worst_case_mask(report)
    return found | ({WORST: decode_mask(worst)} if worst is not None else {})


def accuracies(report: Report) -> list[Fact]:
    """Of the clean images, under each attack, and in the worst case."""
    return [_fraction("accuracy", name, mask) for name, mask in correct(report).items()]


def per_class(report: Report) -> list[tuple[Fact, Fact]]:
    """Clean and worst-case accuracy of each class that has samples; none without labels."""
    labels, masks = labels_of(report), correct(report)
    if labels is None or not masks:
        return []
    clean, worst = masks["clean"], masks.get(WORST, masks["clean"])
    names = class_names(report)
    order = np.argsort(labels, kind="stable")
    present, begins = np.unique(labels[order], return_index=True)
    return [
        (
            _fraction("accuracy of a class, clean", names.get(int(label), str(label)), clean[part]),
            _fraction("accuracy of a class, worst", names.get(int(label), str(label)), worst[part]),
        )
        for label, part in zip(present, np.split(order, begins[1:]), strict=True)
    ]


def latency(timed: Measurement, quantile: float) -> Fact:
    """A percentile of the latency of one call."""
    ns = np.asarray(timed.latency_ns, dtype=np.float64)
    ends = (
        median_interval(ns.tolist())
        if quantile == 0.5
        else quantile_interval(ns.tolist(), quantile)
    )
    low, high = (None, None) if ends is None else (ends[0] / 1e6, ends[1] / 1e6)
    return Fact(
        metric="latency",
        name=f"p{round(100 * quantile)}, batch {timed.batch_size}",
        value=percentile_ms(timed, quantile),
        unit="ms",
        low=low,
        high=high,
        samples=len(ns),
    )


def all_facts(report: Report) -> list[Fact]:
    """Everything that is a number, for a spreadsheet."""
    found = accuracies(report)
    found += [fact for pair in per_class(report) for fact in pair]
    found += [latency(report.latency, quantile) for quantile in PERCENTILES]
    timed = report.throughput
    found += [
        Fact(
            metric="throughput",
            name=f"batch {timed.batch_size}",
            value=images_per_second(timed),
            unit="images/s",
            samples=len(timed.latency_ns),
        ),
        Fact(metric="size", name="artefact", value=report.artifact.size_bytes, unit="bytes"),
        Fact(metric="memory", name="peak", value=report.peak_memory_bytes, unit="bytes"),
    ]
    return found + energies(report)


def energies(report: Report) -> list[Fact]:
    """Energy an image above idle, give or take its uncertainty."""
    figures = device_figures(report)
    away = figures.get("energy_uncertainty_mj", {})
    return [
        Fact(
            metric="energy",
            name=name,
            value=value,
            unit="mJ/image",
            low=value - away[name],
            high=value + away[name],
        )
        for name, value in figures.get("energy_mj", {}).items()
    ]


def _fraction(metric: str, name: str, mask: BoolArray) -> Fact:
    right = int(mask.sum())
    low, high = wilson_interval(right, len(mask))
    return Fact(
        metric=metric,
        name=name,
        value=right / len(mask),
        unit="fraction",
        low=low,
        high=high,
        samples=len(mask),
    )
