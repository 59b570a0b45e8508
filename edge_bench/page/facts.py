"""The figures of a report as numbers: what headlines, tables and CSV tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement
from edge_bench.options.setting import Setting
from edge_bench.report.device_summary import device_figures
from edge_bench.statistics.apart import apart, corruption_accuracy, corruption_loss
from edge_bench.statistics.metrics import (
    BoolArray,
    class_names,
    decode_mask,
    labels_of,
    worst_case_mask,
)
from edge_bench.statistics.path import path_gap, right
from edge_bench.statistics.stats import (
    early_stopping_floor,
    median_interval,
    percentile_ms,
    quantile_interval,
    wilson_interval,
)
from edge_bench.timing.measure import images_per_second
from edge_bench.timing.soak import drift

CLEAN, WORST = "clean", "worst case"
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


def clean(report: Report) -> Fact | None:
    """Accuracy on the unattacked images; None where nothing was replayed."""
    return _of_mask(CLEAN, report.clean_mask)


def worst(report: Report) -> Fact | None:
    """Accuracy in the worst case over the attacks; None where none was replayed."""
    return _of_mask(WORST, worst_case_mask(report))


def by_set(report: Report) -> list[Fact]:
    """Accuracy on each set, by its name, whatever that is."""
    return [_fraction("accuracy", s.name, decode_mask(s.mask)) for s in report.sets]


def accuracies(report: Report) -> list[Fact]:
    """Of the clean images, on each set, and in the worst case, as far as they were measured."""
    found = [clean(report), *by_set(report), worst(report)]
    return [fact for fact in found if fact is not None]


def per_class(report: Report) -> list[tuple[Fact, Fact | None]]:
    """Clean and worst-case accuracy of each class that has samples; none without labels.

    No class has a worst case where no attack was replayed.
    """
    labels = labels_of(report)
    if labels is None or report.clean_mask is None:
        return []
    masks, names = (report.clean_mask, worst_case_mask(report)), class_names(report)
    order = np.argsort(labels, kind="stable")
    present, begins = np.unique(labels[order], return_index=True)
    found = []
    for label, part in zip(present.tolist(), np.split(order, begins[1:]), strict=True):
        of_clean, of_worst = (
            _of_mask(names.get(label, str(label)), mask, f"accuracy of a class, {kind}", part)
            for kind, mask in zip(("clean", "worst"), masks, strict=True)
        )
        assert of_clean is not None, "the clean mask is there"
        found.append((of_clean, of_worst))
    return found


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


def lacking(timed: Measurement, percentile: float) -> str:
    """Of how many too few calls a percentile would be told; empty where they are enough."""
    floor, calls = early_stopping_floor(percentile), len(timed.latency_ns)
    return f"{calls:,} of {floor:,}" if calls < floor else ""


def all_facts(report: Report) -> list[Fact]:
    """Everything that is a number, for a spreadsheet."""
    found = accuracies(report)
    found += [fact for pair in per_class(report) for fact in pair if fact is not None]
    found += beside(report)
    found += [latency(report.latency, quantile) for quantile in PERCENTILES]
    found += [
        throughput(report.throughput),
        Fact(metric="size", name="artefact", value=report.artifact.size_bytes, unit="bytes"),
        Fact(metric="memory", name="peak", value=report.peak_memory_bytes, unit="bytes"),
    ]
    return [*found, *energies(report), *further_timings(report)]


def throughput(timed: Measurement) -> Fact:
    """Images a second."""
    return Fact(
        metric="throughput",
        name=f"batch {timed.batch_size}",
        value=images_per_second(timed),
        unit="images/s",
        samples=len(timed.latency_ns),
    )


def further_timings(report: Report) -> Iterator[Fact]:
    """Of the scenarios, the points of a sweep and the soak that were asked for."""
    timings = [("multi-stream", report.multi_stream)] if report.multi_stream else []
    timings += [("offline", timed) for timed in report.offline]
    for point in report.sweep:
        held = Setting(threads=point.threads, cores=point.cores).held
        timings.append((f"sweep, {held}" if held else "sweep", point.timed))
    for name, timed in timings:
        facts = [*(latency(timed, quantile) for quantile in PERCENTILES), throughput(timed)]
        yield from (replace(fact, name=f"{name}, {fact.name}") for fact in facts)
    if report.soak is not None:
        told = drift(report.soak)
        yield Fact(
            metric="drift of the median latency",
            name="soak",
            value=told.change,
            unit="fraction",
            samples=told.samples,
        )


def beside(report: Report) -> Iterator[Fact]:
    """Beside the parent, under corruption, and from files on; nothing that was not measured."""
    if (found := apart(report)) is not None:
        for direction, mask in found.by_direction().items():
            yield _fraction("divergence", direction, mask)
    for metric, estimate in (
        ("accuracy under corruption", corruption_accuracy(report)),
        ("relative loss under corruption", corruption_loss(report)),
    ):
        if estimate is not None:
            low, high = estimate.interval()
            yield Fact(
                metric=metric,
                name="mean",
                value=estimate.value,
                unit="fraction",
                low=low,
                high=high,
                samples=estimate.samples,
            )
    if (walked := report.pictures) is not None:
        yield _fraction("accuracy from file to logits", walked.pipeline, right(walked))
        if (gap := path_gap(walked)) is not None:
            low, high = gap.interval()
            yield Fact(
                metric="path gap",
                name=walked.pipeline,
                value=gap.gap,
                unit="fraction",
                low=low,
                high=high,
                samples=gap.samples,
            )


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


def _of_mask(
    name: str, mask: str | None, metric: str = "accuracy", part: NDArray[np.intp] | None = None
) -> Fact | None:
    if mask is None:
        return None
    found = decode_mask(mask)
    return _fraction(metric, name, found if part is None else found[part])


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
