"""Whether a report and a baseline can be compared at all: what both were measured on and with."""

from __future__ import annotations

from edge_bench.core.errors import InputError
from edge_bench.core.spec import COMPARED, Report
from edge_bench.policy.baseline import Baseline
from edge_bench.policy.condition import PERFORMANCE, Condition, is_fraction
from edge_bench.statistics.metrics import adversarial
from edge_bench.statistics.path import PATH_ACCURACY

CLEAN = ("clean", "clean_class")
"""Metrics that no attack changes."""
OF_THE_FILE = "size_bytes"
"""The metric of PERFORMANCE that no machine changes."""


def check_comparable(report: Report, baseline: Baseline, conditions: list[Condition]) -> None:
    """Refuse a baseline of other images, pictures, attacks, or another family of models.

    Raises:
        InputError: says which.
    """
    card = report.artifact.card
    if card is not None:
        for what, ours, theirs in (
            ("dataset", card.dataset, baseline.dataset),
            ("architecture", card.architecture, baseline.architecture),
        ):
            if theirs is not None and ours != theirs:
                raise InputError(
                    f"--baseline: is of the {what} {theirs}, but the report is of {ours}; a drop "
                    "from one to the other says nothing of a regression: write a baseline of its "
                    "own with --update-baseline"
                )
    _check_machine(report, baseline, conditions)
    if any(c.metric == PATH_ACCURACY for c in conditions):
        _check_pictures(report, baseline)
    fractions = [c for c in conditions if is_fraction(c.metric) and c.metric != PATH_ACCURACY]
    if not fractions or report.clean_mask is None or baseline.clean_mask is None:
        return
    if report.images_sha256 != baseline.images_sha256 or report.images_sha256 is None:
        why = (
            "it or the report does not tell its clean images (images_sha256)"
            if None in (report.images_sha256, baseline.images_sha256)
            else "was measured on other clean images than the report"
        )
        raise InputError(
            f"--baseline: {why}, so a drop per sample does not exist; bench both with sets over "
            "the same images"
        )
    named = any(c.metric.startswith("attack:") for c in fractions)
    apart = other_attacks(report, baseline, named=named)
    if apart and any(c.metric.partition(":")[0] not in CLEAN for c in fractions):
        raise InputError(
            f"--baseline: was measured under other attacks than the report (they differ in "
            f"{', '.join(apart)}); bench both with the same attacks"
        )


def other_attacks(report: Report, baseline: Baseline, *, named: bool = False) -> list[str]:
    """Names of the sets whose attack is another; none where either of the two was not attacked.

    Args:
        named: differential sets and corruptions, too, and those that attacked other images (all, or
            survivors), which changes what one of them keeps and not the worst case of all.
    """
    new = {s.name: s.manifest for s in (report.sets if named else adversarial(report))}
    old = {s.name: s for s in baseline.sets if named or s.threat not in COMPARED}
    if not new or not old:
        return []
    found = set(new) ^ set(old)
    for name in set(new) & set(old):
        manifest, before = new[name], old[name]
        is_alike = not named or before.attacked in (None, manifest.attacked)
        if manifest.attack != before.attack or not is_alike:
            found.add(name)
    return sorted(found)


def _check_machine(report: Report, baseline: Baseline, conditions: list[Condition]) -> None:
    """Refuse times, memory and energy of another kind of device, or of another runtime."""
    timed = [c for c in conditions if c.metric in PERFORMANCE and c.metric != OF_THE_FILE]
    ours = f"{report.device.device} by {report.backend.name}"
    theirs = f"{baseline.device} by {baseline.backend}"
    if timed and ours != theirs:
        raise InputError(
            f"--baseline: was measured on {theirs}, but the report on {ours}, so {timed[0].said} "
            "would compare machines, not models; write a baseline of its own with "
            "--update-baseline"
        )
    calls = report.throughput.batch_size
    before = baseline.images_a_call
    if before not in (None, calls) and any(c.metric == "images_per_second" for c in timed):
        raise InputError(
            f"--baseline: its throughput is of {before} images a call, that of the report of "
            f"{calls}, which is no change of the model; bench both with the same --batch-size"
        )


def another_machine(report: Report, baseline: Baseline, metric: str) -> str | None:
    """Why a change of a time says nothing, where machine or threads are known to be others."""
    if metric == OF_THE_FILE or baseline.images_a_call is None:
        return None
    device = report.device
    pairs = {
        "board": (baseline.board, device.board),
        "processor": (baseline.cpu, device.cpu),
        "power mode": (baseline.power_mode, device.power_mode),
        "threads": (baseline.threads, report.backend.threads),
    }
    told = [f"{what} {a}, now {b}" for what, (a, b) in pairs.items() if a != b]
    return "; ".join(told) if told else None


def _check_pictures(report: Report, baseline: Baseline) -> None:
    walked, before = report.pictures, baseline.pictures
    if walked is None or before is None:
        return
    if (walked.files_sha256, len(walked.answers)) != (before.files_sha256, before.samples):
        raise InputError(
            "--baseline: was measured on other pictures than the report, so a drop per picture "
            "does not exist; bench both with --pictures over the same files"
        )
