"""Decide what may change against a baseline, sample by sample where there are samples.

With a confidence a drop is held to non-inferiority: it passes where it lies below its limit, and
fails where it lies above, each time at that confidence to one side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge_bench.core.spec import Report
from edge_bench.policy.baseline import Baseline
from edge_bench.policy.comparable import another_machine
from edge_bench.policy.condition import RELATIVE_DROP, RELATIVE_RISE, Condition, is_fraction
from edge_bench.policy.measured import Measured
from edge_bench.policy.outcome import FAILED, INCONCLUSIVE, PASSED, ROUNDING, Outcome, amount
from edge_bench.policy.policy_file import Policy
from edge_bench.statistics.metrics import BoolArray, class_names, labels_of
from edge_bench.statistics.path import PATH_ACCURACY
from edge_bench.statistics.stats import (
    mcnemar_p_value,
    paired_difference_interval,
    unpaired_difference_interval,
)

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Against:
    """What a change is decided with."""

    baseline: Baseline
    report: Report
    policy: Policy


def decide_change(name: str, figure: Measured, condition: Condition, against: Against) -> Outcome:
    """One change, decided."""
    if is_fraction(condition.metric):
        return _drop(name, figure, condition, against)
    return _rise(name, figure, condition, against)


def old_mask(name: str, baseline: Baseline, report: Report) -> BoolArray | None:
    """The baseline's mask of a metric, over the same samples as the report's."""
    kind, _, of = name.partition(":")
    if kind == PATH_ACCURACY:
        return baseline.pictures.mask if baseline.pictures else None
    if kind == "clean":
        return baseline.clean_mask
    if kind == "attack":
        return baseline.mask(of)
    mask = baseline.clean_mask if kind == "clean_class" else baseline.worst_case_mask()
    if kind == "worst_case":
        return mask
    labels = labels_of(report)
    if mask is None or labels is None or baseline.images_sha256 != report.images_sha256:
        return None
    of_classes = [
        (label, mask[labels == label]) for label in class_names(report) if (labels == label).any()
    ]
    if kind == "worst_class":
        return min((part for _, part in of_classes), key=lambda part: part.mean(), default=None)
    names = class_names(report)
    return next((part for label, part in of_classes if names[label] == of), None)


def _drop(name: str, figure: Measured, condition: Condition, against: Against) -> Outcome:
    new, old = figure.mask, old_mask(name, against.baseline, against.report)
    confidence = against.policy.confidence
    outcome = _outcome(name, figure, condition)
    if new is None or old is None:
        which = "the report" if new is None else "the baseline"
        how = "--pictures" if condition.metric == PATH_ACCURACY else "--sets"
        return outcome.with_status(
            FAILED,
            f"{_unqualified(figure.metric)} was not measured in {which}, but {condition.said} asks "
            f"for a comparison; run ardx bench with {how}",
        )
    is_paired = condition.metric != "worst_class"
    was, now = float(old.mean()), float(new.mean())
    scale = was if condition.form == RELATIVE_DROP else 1.0
    if scale == 0:
        return outcome.with_status(PASSED, f"{figure.metric} was 0 before, and cannot fall")
    low = high = observed = (was - now) / scale
    if confidence is not None:
        gained, lost = _difference(old, new, is_paired, 2 * confidence - 1)[::-1]  # One-sided.
        low, high = -gained / scale, -lost / scale
    outcome = replace(outcome, observed=observed, interval=(low, high) if confidence else None)
    sentence = _drop_sentence(figure, old, new, is_paired)
    return _judge(outcome, (low, high), sentence, condition)


def _difference(
    old: BoolArray, new: BoolArray, is_paired: bool, confidence: float
) -> tuple[float, float]:
    if is_paired:
        lost, won = int(np.sum(old & ~new)), int(np.sum(new & ~old))
        return paired_difference_interval(lost, won, len(new), confidence)
    return unpaired_difference_interval(
        (int(old.sum()), len(old)), (int(new.sum()), len(new)), confidence
    )


def _drop_sentence(
    figure: Measured, old: BoolArray, new: BoolArray, is_paired: bool
) -> tuple[str, str]:
    """What happened, and in brackets how sure that is."""
    was, now = float(old.mean()), float(new.mean())
    fell = f"fell from {was:.4f} to {now:.4f}, by {was - now:.4f}"
    if now >= was:
        fell = f"went from {was:.4f} to {now:.4f}"
    if not is_paired:
        return f"{figure.metric} {fell}", "of other samples than before"
    lost, won = int(np.sum(old & ~new)), int(np.sum(new & ~old))
    p_value = mcnemar_p_value(lost, won)
    verdict = "statistically real" if p_value < LEVEL else "within what chance explains"
    return f"{figure.metric} {fell}", (
        f"{lost} samples lost, {won} won; exact McNemar p = {p_value:.2g}: {verdict} at the 5% "
        "level"
    )


def _rise(name: str, figure: Measured, condition: Condition, against: Against) -> Outcome:
    """A change of latency, energy or size; the baseline's figure counts as exact."""
    outcome = _outcome(name, figure, condition)
    old, confidence = against.baseline.figures.get(name), against.policy.confidence
    if figure.value is None or not old:
        which = "the report" if figure.value is None else "the baseline"
        return outcome.with_status(
            FAILED,
            f"{figure.metric} was not measured in {which}, but {condition.said} asks for "
            f"a comparison; {figure.missing or 'write the baseline anew'}",
        )
    if figure.too_few:
        return outcome.with_status(INCONCLUSIVE, figure.too_few)
    apart = another_machine(against.report, against.baseline, condition.metric)
    if apart is not None:
        return outcome.with_status(
            INCONCLUSIVE,
            f"{figure.metric}: the baseline was measured elsewhere ({apart}), so that "
            f"{condition.said} would compare machines; bench both on one",
        )
    is_rise = condition.form in ("rise", RELATIVE_RISE)
    is_relative = condition.form in (RELATIVE_DROP, RELATIVE_RISE)
    scale = old if is_relative else 1.0

    def change(value: float) -> float:
        return (value - old if is_rise else old - value) / scale

    interval = figure.interval(2 * confidence - 1) if confidence and figure.interval else None
    if confidence and figure.interval and interval is None:
        return outcome.with_status(INCONCLUSIVE, figure.too_few_for(confidence))
    ends = sorted(change(value) for value in interval or (figure.value, figure.value))
    seen = (ends[0], ends[1]) if interval else None
    outcome = replace(outcome, observed=change(figure.value), interval=seen)
    went = f"{figure.metric} went from {amount(old, figure.unit)} to " + amount(
        figure.value, figure.unit
    )
    told = went, f"{100 * (figure.value / old - 1):+.1f} %"
    return _judge(outcome, (ends[0], ends[1]), told, condition)


def judge_interval(low: float, high: float, limit: float) -> str:
    """Whether a change that lies between `low` and `high` is within `limit`."""
    if high <= limit + ROUNDING:
        return PASSED
    return FAILED if low > limit + ROUNDING else INCONCLUSIVE


def _judge(
    outcome: Outcome, interval: tuple[float, float], sentence: tuple[str, str], condition: Condition
) -> Outcome:
    (low, high), (happened, certainty) = interval, sentence
    status = judge_interval(low, high, condition.limit or 0.0)
    if status == PASSED:
        return outcome.with_status(PASSED, f"{happened} ({certainty})")
    if status == FAILED:
        return outcome.with_status(FAILED, f"{happened}, above {condition.said} ({certainty})")
    more = "replay more images" if outcome.unit == "fraction" else "run ardx bench with more --runs"
    return outcome.with_status(
        INCONCLUSIVE,
        f"{happened} ({certainty}); the change lies between {low:.4g} and {high:.4g}, which does "
        f"not decide {condition.said}; {more}, or allow what chance explains",
    )


def _unqualified(metric: str) -> str:
    return metric.removeprefix("worst-case ")


def _outcome(name: str, figure: Measured, condition: Condition) -> Outcome:
    relative = condition.form in (RELATIVE_DROP, RELATIVE_RISE)
    return Outcome(
        condition=f"{condition.form}({name})",
        metric=f"{condition.form.replace('_', ' ')} of {figure.metric}",
        comparator=condition.comparator,
        threshold=condition.limit,
        observed=None,
        unit="fraction" if relative else figure.unit,
        samples=figure.samples,
        interval=None,
        tier=condition.tier,
        status=PASSED,
        sentence="",
    )
