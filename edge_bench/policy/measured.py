"""What a report says of a metric: the value, what it comes from, and its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement
from edge_bench.policy.condition import ALL
from edge_bench.report.path import NOT_GONE
from edge_bench.statistics.apart import Estimate, apart, corruption_accuracy, corruption_loss
from edge_bench.statistics.metrics import (
    BoolArray,
    class_names,
    decode_mask,
    labels_of,
    worst_case_mask,
)
from edge_bench.statistics.path import PATH_ACCURACY, path_gap, right
from edge_bench.statistics.stats import (
    early_stopping_floor,
    percentile_ms,
    quantile_interval,
    student_quantile,
    wilson_interval,
)
from edge_bench.telemetry.energy import energy_per_image
from edge_bench.timing.measure import images_per_second

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One figure.

    Attributes:
        metric: for people, such as "worst-case robust accuracy".
        unit: as `Outcome.unit`.
        value: None where it was not measured.
        missing: how to measure it, where it was not.
        too_few: why the value decides nothing, where there are too few samples for it.
        samples: images or calls.
        mask: of an accuracy, whether each image was right.
        interval: of the value at a confidence, None where the samples are too few for it; None of
            a value that is exact, such as bytes.
    """

    metric: str
    unit: str
    value: float | None = None
    missing: str = ""
    too_few: str = ""
    samples: int | None = None
    mask: BoolArray | None = None
    interval: Callable[[float], Interval | None] | None = None

    def too_few_for(self, confidence: float) -> str:
        """Why a value without an interval at a confidence decides nothing."""
        how = "--seconds" if self.unit == "1/s" else "--runs"
        return (
            f"{self.metric} over {self.samples} runs has no interval of confidence {confidence:g}; "
            f"run ardx bench with more {how}"
        )


def measured(report: Report, metric: str) -> list[tuple[str, Measured]]:
    """(name, figure) of `metric`; of one for every attack or class as many as there are.

    Raises:
        InconclusiveError: the readings cannot give an energy.
    """
    kind, _, name = metric.partition(":")
    if kind in ("attack", "class", "clean_class"):
        return list(_named(report, kind, name))
    return [(metric, SINGLE[metric](report))]


def proportion(metric: str, mask: BoolArray, missing: str = "") -> Measured:
    """The accuracy of a mask."""
    if not len(mask):
        return Measured(metric=metric, unit="fraction", missing=missing)
    right = int(mask.sum())
    return Measured(
        metric=metric,
        unit="fraction",
        value=right / len(mask),
        samples=len(mask),
        mask=mask,
        interval=lambda confidence: wilson_interval(right, len(mask), confidence),
    )


REPLAY = "run ardx bench with --sets"


def _named(report: Report, kind: str, name: str) -> Iterator[tuple[str, Measured]]:
    if kind == "attack":
        found = {
            s.name: proportion(
                f"{'' if s.manifest.is_compared else 'robust '}accuracy under {s.name}",
                decode_mask(s.mask),
            )
            for s in report.sets
        }
        absent = f"robust accuracy under {name}"
    else:
        found = per_class(report, worst=kind == "class")
        absent = f"{'worst-case robust' if kind == 'class' else 'clean'} accuracy of class {name}"
    if name == ALL:
        yield from ((f"{kind}:{one}", figure) for one, figure in found.items())
        if found:
            return
    missing = Measured(metric=absent, unit="fraction", missing=REPLAY)
    yield f"{kind}:{name}", found.get(name, missing)


def per_class(report: Report, worst: bool) -> dict[str, Measured]:
    """Worst-case robust, or clean, accuracy of each class that has images, by name or number."""
    mask = worst_case_mask(report) if worst else report.clean_mask
    labels = labels_of(report)
    if mask is None or labels is None:
        return {}
    right = decode_mask(mask)
    what = "worst-case robust" if worst else "clean"
    return {
        name: proportion(f"{what} accuracy of class {name}", right[labels == label])
        for label, name in class_names(report).items()
        if (labels == label).any()
    }


def _clean(report: Report) -> Measured:
    mask = decode_mask(report.clean_mask or "")
    return proportion("clean accuracy", mask, REPLAY)


def _worst_case(report: Report) -> Measured:
    mask = decode_mask(worst_case_mask(report) or "")
    return proportion("worst-case robust accuracy", mask, REPLAY)


def _worst_class(report: Report) -> Measured:
    found = per_class(report, worst=True)
    if not found:
        return Measured(
            metric="worst-case robust accuracy of the worst class", unit="fraction", missing=REPLAY
        )
    worst = min(found, key=lambda name: (found[name].value or 0.0, name))
    mask = found[worst].mask
    assert mask is not None, "per_class gives classes with images alone"
    return proportion(f"worst-case robust accuracy of the worst class, {worst},", mask)


COMPARE = "replay a differential set: ardx attack ARTEFACT --parent WEIGHTS --threat differential"
CORRUPT = "replay corruptions: ardx attack WEIGHTS --corruption NAME:SEVERITY"


def _divergence(direction: str) -> Callable[[Report], Measured]:
    words = {
        "either": "divergence from the parent",
        "artefact": "divergence from the parent to the artefact's cost",
        "parent": "divergence from the parent in the artefact's favour",
    }

    def figure(report: Report) -> Measured:
        found = apart(report)
        mask = found.by_direction()[direction] if found else np.zeros(0, dtype=np.bool_)
        return proportion(words[direction], mask, COMPARE)

    return figure


def _estimated(
    metric: str, estimate: Callable[[Report], Estimate | None]
) -> Callable[[Report], Measured]:
    def figure(report: Report) -> Measured:
        found = estimate(report)
        if found is None:
            return Measured(metric=metric, unit="fraction", missing=CORRUPT)
        return Measured(
            metric=metric,
            unit="fraction",
            value=found.value,
            samples=found.samples,
            interval=found.interval,
        )

    return figure


PICTURES = "run ardx bench with --pictures, and with --pipeline as the product decodes"


def _path_accuracy(report: Report) -> Measured:
    mask = right(report.pictures) if report.pictures else np.zeros(0, dtype=np.bool_)
    return proportion("accuracy from file to logits", mask, PICTURES)


def _path_gap(report: Report) -> Measured:
    metric = "accuracy that the product's way from file to logits loses against the card's"
    gap = path_gap(report.pictures) if report.pictures else None
    if gap is None:
        missing = NOT_GONE if report.pictures else PICTURES
        return Measured(metric=metric, unit="fraction", missing=missing)
    return Measured(
        metric=metric,
        unit="fraction",
        value=gap.lost,
        samples=gap.samples,
        interval=gap.interval_of_loss,
    )


def _latency(percentile: float) -> Callable[[Report], Measured]:
    def figure(report: Report) -> Measured:
        timed, what = report.latency, f"p{round(100 * percentile)} latency"
        if timed.batch_size != 1:
            return Measured(
                metric=f"{what} of one image",
                unit="ms",
                missing=f"the artefact is bound to batches of {timed.batch_size}: export it with "
                "a free batch size",
            )
        floor, came = early_stopping_floor(percentile), len(timed.latency_ns)
        few = (
            f"{what} needs {floor} samples or more, the report has {came}; "
            f"run ardx bench with --runs {floor} or more"
        )
        return Measured(
            metric=what,
            unit="ms",
            value=percentile_ms(timed, percentile),
            too_few=few if came < floor else "",
            samples=came,
            interval=lambda confidence: _in_ms(timed, percentile, confidence),
        )

    return figure


def _in_ms(timed: Measurement, percentile: float, confidence: float) -> Interval | None:
    found = quantile_interval(timed.latency_ns, percentile, confidence)
    return None if found is None else (found[0] / 1e6, found[1] / 1e6)


def throughput_interval(timed: Measurement, confidence: float) -> Interval | None:
    """Of images a second, by Student's t of the mean time of a call.

    None of fewer than two calls, or of ones that differ so much that the mean may be nothing.
    """
    calls = np.asarray(timed.latency_ns, dtype=np.float64) / 1e9
    if len(calls) < 2:
        return None
    t = student_quantile(confidence, len(calls) - 1)
    half, mean = t * float(calls.std(ddof=1)) / sqrt(len(calls)), float(calls.mean())
    if mean <= half:
        return None
    return timed.batch_size / (mean + half), timed.batch_size / (mean - half)


def _throughput(report: Report) -> Measured:
    timed = report.throughput
    return Measured(
        metric="throughput",
        unit="1/s",
        value=images_per_second(timed),
        samples=len(timed.latency_ns),
        interval=lambda confidence: throughput_interval(timed, confidence),
    )


def _energy(report: Report) -> Measured:
    energy = energy_per_image(report.telemetry, "latency", report.latency)
    if energy is None:
        return Measured(
            metric="energy per image",
            unit="mJ",
            missing="run ardx bench where a sensor tells power (a Jetson, a Raspberry Pi 5)",
        )
    value, about = energy.per_image_mj, energy.uncertainty_mj
    return Measured(
        metric="energy per image",
        unit="mJ",
        value=value,
        samples=energy.samples,
        interval=lambda _: (value - about, value + about),
    )


def _size(report: Report) -> Measured:
    return Measured(metric="size", unit="B", value=float(report.artifact.size_bytes))


def _memory(report: Report) -> Measured:
    return Measured(
        metric="peak memory of the process", unit="B", value=float(report.peak_memory_bytes)
    )


SINGLE: dict[str, Callable[[Report], Measured]] = {
    "clean": _clean,
    "worst_case": _worst_case,
    "worst_class": _worst_class,
    "corruption": _estimated("mean accuracy under corruption", corruption_accuracy),
    "corruption_loss": _estimated("relative loss under corruption", corruption_loss),
    "divergence": _divergence("either"),
    "divergence_artefact": _divergence("artefact"),
    "divergence_parent": _divergence("parent"),
    PATH_ACCURACY: _path_accuracy,
    "path_gap": _path_gap,
    "latency_p50_ms": _latency(0.5),
    "latency_p95_ms": _latency(0.95),
    "latency_p99_ms": _latency(0.99),
    "images_per_second": _throughput,
    "energy_mj": _energy,
    "size_bytes": _size,
    "memory_bytes": _memory,
}
