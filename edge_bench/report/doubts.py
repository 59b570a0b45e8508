"""Reasons to distrust the figures of a report, each a sentence with a remedy."""

from __future__ import annotations

import numpy as np

from edge_bench.core.spec import Report
from edge_bench.files.fingerprint import difference_sentence
from edge_bench.files.sets import AdversarialSet
from edge_bench.statistics.metrics import BoolArray, decode_mask
from edge_bench.statistics.stats import mcnemar_p_value
from edge_bench.telemetry.throttling import throttling
from edge_bench.timing.stability import stabilities

TOLERANCE = 0.005
"""Accuracy, as a fraction, below which a difference is not worth a word."""


def doubts_about(report: Report, sets: list[AdversarialSet]) -> list[str]:
    """Sentences about a report of the replayed `sets`."""
    found = doubts_in(report)
    return [*found, *_above_parent(report, sets)] if sets else found


def doubts_in(report: Report) -> list[str]:
    """Sentences about a report that follow from it alone."""
    other_runtime = difference_sentence(report)
    found = [other_runtime] if other_runtime else []
    found += _throttled(report)
    found += [f"timing of {name}: {v}" for name, v in stabilities(report).items() if not v.stable]
    if not report.sets:
        return ["no --sets given: accuracy and robustness were not measured", *found]
    return [*found, *_upper_bound(report), *_black_box(report)]


def _throttled(report: Report) -> list[str]:
    evidence = throttling(report.telemetry)
    if evidence is None or not evidence.seen:
        return []
    if not evidence.while_timed:
        return [
            f"the device throttled during the replay, but not while it was timed "
            f"({', '.join(evidence.seen)}): it will be slower than these figures under a load that "
            "lasts; cool it, or see what it keeps up: --soak MINUTES"
        ]
    return [
        f"the device throttled while it was timed ({', '.join(evidence.while_timed)}): its latency "
        "and energy are those of a throttled board; cool it, or give it a better supply or a lower "
        "power mode, and run again"
    ]


def _upper_bound(report: Report) -> list[str]:
    card = report.artifact.card
    if card is None or card.precision != "int8":
        return []
    if all(result.relation == "this artefact" for result in report.sets):
        return []
    return [
        "these sets were not crafted on this INT8 artefact, so their robust accuracy is an upper "
        "bound: an attack that adapts to the quantised model may find more (ardx attack "
        "ARTEFACT --parent WEIGHTS, and ardx bench --attack square)"
    ]


def _above_parent(report: Report, sets: list[AdversarialSet]) -> list[str]:
    """Sets of the parent that the artefact stands better than the parent itself."""
    crafted = {opened.name: opened for opened in sets}
    found = []
    for result in report.sets:
        if result.relation != "its parent" or result.name not in crafted:
            continue
        ours = decode_mask(result.mask)
        theirs = ~np.asarray(crafted[result.name].source_success)
        more, less = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
        if more - less > TOLERANCE * len(ours) and mcnemar_p_value(more, less) <= 0.05:
            found.append(
                f"the artefact keeps {100 * ours.mean():.1f} % of the set {result.name}, its "
                f"parent, on which it was crafted, {100 * theirs.mean():.1f} %: compression does "
                "not defend, the set just fits the artefact less; craft one on the artefact (ardx "
                "attack ARTEFACT --parent WEIGHTS)"
            )
    return found


def _black_box(report: Report) -> list[str]:
    """Scores alone break what attacks by gradients left."""
    by_gradients = _all_right(report, black_box=False)
    by_scores = _all_right(report, black_box=True)
    if report.clean_mask is None or by_gradients is None or by_scores is None:
        return []
    lost = decode_mask(report.clean_mask) & by_gradients & ~by_scores
    if lost.mean() <= TOLERANCE:
        return []
    return [
        f"Square, which sees scores alone, breaks {int(lost.sum())} of {len(lost)} images that the "
        "replayed sets left: those are too weak for this artefact; craft stronger ones on it "
        "(ardx attack ARTEFACT --parent WEIGHTS --attack autoattack)"
    ]


def _all_right(report: Report, *, black_box: bool) -> BoolArray | None:
    """Right under every result that was, or was not, found by scores alone; None without any."""
    masks = [
        decode_mask(result.mask)
        for result in report.sets
        if (result.manifest.threat == "black-box") == black_box
    ]
    return np.logical_and.reduce(masks) if masks else None
