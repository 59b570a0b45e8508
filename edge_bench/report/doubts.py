"""Reasons to distrust the figures of a report, each a sentence with a remedy."""

from __future__ import annotations

import numpy as np

from edge_bench.core.spec import THREATS, Report
from edge_bench.files.fingerprint import difference_sentence
from edge_bench.statistics.apart import apart
from edge_bench.statistics.generations import generations
from edge_bench.statistics.metrics import BoolArray, adversarial, decode_mask, worst_case_mask
from edge_bench.statistics.stats import mcnemar_p_value
from edge_bench.telemetry.throttling import throttling
from edge_bench.timing.stability import stabilities

BLIND = {
    "black-box": "Square, which sees scores alone,",
    "hard-label": "RayS, which sees the class alone,",
}
"""Threats without gradients, and how sentences call their attacks."""
BY_GRADIENTS = {"white-box", "bpda"}
"""Threats whose attacks, crafted on an artefact, adapt to it."""
TOLERANCE = 0.005
"""Accuracy, as a fraction, below which a difference is not worth a word."""


def doubts_in(report: Report) -> list[str]:
    """Every reason, of the report alone: a gate has no more at hand than that."""
    other_runtime = difference_sentence(report)
    found = [other_runtime] if other_runtime else []
    found += _throttled(report)
    found += [f"timing of {name}: {v}" for name, v in stabilities(report).items() if not v.stable]
    if not report.sets:
        lacking = "robustness was" if report.pictures else "accuracy and robustness were"
        return [f"no --sets given: {lacking} not measured", *found]
    found += _other_parent(report) + _stale(report)
    if not adversarial(report):
        return ["none of --sets is an attack: robustness was not measured", *found]
    found += [*_upper_bound(report), *_black_box(report), *_beyond_worst_case(report)]
    return found + _above_parent(report)


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
    results = adversarial(report)
    own = {r.manifest.threat for r in results if r.relation == "this artefact"}
    foreign = [r.name for r in results if r.relation != "this artefact"]
    if own & BY_GRADIENTS or not foreign:
        return []
    return [
        f"{', '.join(foreign)}: these sets were not crafted on this INT8 artefact, so their "
        "robust accuracy is an upper bound: an attack that adapts to the quantised model may find "
        "more (ardx attack ARTEFACT --parent WEIGHTS, and ardx bench --attack square)"
    ]


def _above_parent(report: Report) -> list[str]:
    """Sets of the parent that the artefact stands better than the parent itself."""
    found = []
    for result in adversarial(report):
        if result.relation != "its parent" or result.beside_source is None:
            continue
        ours, samples = decode_mask(result.mask), result.manifest.samples
        more, less = result.beside_source
        theirs = (int(ours.sum()) - more + less) / samples
        if more - less > TOLERANCE * samples and mcnemar_p_value(more, less) <= 0.05:
            found.append(
                f"the artefact keeps {100 * ours.mean():.1f} % of the set {result.name}, its "
                f"parent, on which it was crafted, {100 * theirs:.1f} %: compression does "
                "not defend, the set just fits the artefact less; craft one on the artefact (ardx "
                "attack ARTEFACT --parent WEIGHTS)"
            )
    return found


def _other_parent(report: Report) -> list[str]:
    """Sets that compare with weights which are not those that the artefact was exported from."""
    card = report.artifact.card
    names = [
        result.name
        for result in report.sets
        if result.manifest.parent_sha256 not in (None, card and card.parent_sha256)
    ]
    if not names:
        return []
    return [
        f"{', '.join(names)}: the parent that these sets compare with is not the one that this "
        "artefact was exported from, so what they tell apart is another pair of models; craft them "
        "on it (ardx attack ARTEFACT --parent WEIGHTS)"
    ]


def _stale(report: Report) -> list[str]:
    """Sets whose source was replaced since, which tell less with every model after it."""
    names = {s.name for s in adversarial(report)}
    old = {n: age for n, age in generations(report).items() if n in names and (age or 0) > 1}
    if not old:
        return []
    told = ", ".join(f"{name} ({age} generations back)" for name, age in old.items())
    return [
        f"sets crafted on what this artefact came from, not on it: {told}; what they break says "
        "ever less as models change (ardx attack --refresh SET --on ARTEFACT --parent WEIGHTS)"
    ]


def _beyond_worst_case(report: Report) -> list[str]:
    """Differential sets break the artefact within its budget where the worst case has it right."""
    found, worst = apart(report), worst_case_mask(report)
    if found is None or worst is None or _is_wider(report):
        return []
    lost = decode_mask(worst) & found.artefact
    if lost.mean() <= TOLERANCE:
        return []
    return [
        f"differential sets, which the worst case leaves out, break {int(lost.sum())} of "
        f"{len(lost)} images that it counts as robust: the attacks in it are too weak for this "
        "artefact; craft stronger ones on it (ardx attack ARTEFACT --parent WEIGHTS --attack "
        "autoattack)"
    ]


def _is_wider(report: Report) -> bool:
    """Has a differential set a budget that no attack of the worst case had?"""
    budgets: dict[str, float] = {}
    for attack in (s.manifest.attack for s in adversarial(report)):
        budgets[attack.norm] = max(budgets.get(attack.norm, 0.0), attack.epsilon)
    return any(
        s.manifest.attack.epsilon > budgets.get(s.manifest.attack.norm, 0.0)
        for s in report.sets
        if s.manifest.threat == "differential"
    )


def _black_box(report: Report) -> list[str]:
    """Scores alone, or classes alone, break what attacks by gradients left."""
    by_gradients = _all_right(report, set(THREATS) - set(BLIND))
    if report.clean_mask is None or by_gradients is None:
        return []
    left = decode_mask(report.clean_mask)
    standing = left & by_gradients
    broken = {blind: np.zeros_like(left) for blind in BLIND}
    for result in adversarial(report):
        stood, blind = decode_mask(result.mask), result.manifest.threat
        if blind in BLIND:
            # The mask of an attack on survivors is '0' also where the sets before it had won.
            tried = left if result.manifest.attacked == "survivors" else standing
            broken[blind] |= standing & tried & ~stood
        left = left & stood
    found = []
    for blind, words in BLIND.items():
        lost = broken[blind]
        if lost.mean() > TOLERANCE:
            found.append(
                f"{words} breaks {int(lost.sum())} of {len(lost)} images that the replayed sets "
                "left: those are too weak for this artefact; craft stronger ones on it (ardx "
                "attack ARTEFACT --parent WEIGHTS --attack autoattack)"
            )
    return found


def _all_right(report: Report, threats: set[str]) -> BoolArray | None:
    """Right under every attack of these threats; None without any."""
    masks = [decode_mask(s.mask) for s in adversarial(report) if s.manifest.threat in threats]
    return np.logical_and.reduce(masks) if masks else None
