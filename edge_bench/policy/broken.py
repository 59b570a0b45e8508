"""Which samples a report lost against its baseline, and of which classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_bench.core.spec import Report
from edge_bench.policy.baseline import Baseline
from edge_bench.policy.comparable import other_attacks
from edge_bench.statistics.metrics import class_names, decode_mask, labels_of, worst_case_mask

MOST_TOLD = 20


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Samples whose worst case changed; whose clean image did, where the attacks are not the same.

    Attributes:
        lost, won: indices that the baseline alone, or the report alone, gets right.
        lost_by_class: how many were lost of each class that lost any, the most first; empty where
            the report does not tell classes.
    """

    lost: tuple[int, ...]
    won: tuple[int, ...]
    lost_by_class: tuple[tuple[str, int], ...]

    def sentence(self) -> str:
        """What broke, by index and class."""
        told = ", ".join(map(str, self.lost[:MOST_TOLD]))
        more = f" and {len(self.lost) - MOST_TOLD} more" if len(self.lost) > MOST_TOLD else ""
        classes = ", ".join(f"{name} {count}" for name, count in self.lost_by_class)
        return (
            f"newly broken: {len(self.lost)} samples ({told}{more})"
            + (f"; by class: {classes}" if classes else "")
            + f"; newly right: {len(self.won)}"
        )


def broken(report: Report, baseline: Baseline | None) -> Broken | None:
    """What changed; None where the two cannot be compared sample by sample."""
    if baseline is None or report.images_sha256 is None:
        return None
    if report.images_sha256 != baseline.images_sha256:
        return None
    old, worst = baseline.worst_case_mask(), worst_case_mask(report)
    if old is None or worst is None or other_attacks(report, baseline):
        old, worst = baseline.clean_mask, report.clean_mask
    if old is None or worst is None:
        return None
    new = decode_mask(worst)
    lost = np.flatnonzero(old & ~new)
    return Broken(
        lost=tuple(lost.tolist()),
        won=tuple(np.flatnonzero(new & ~old).tolist()),
        lost_by_class=_by_class(report, lost),
    )


def _by_class(
    report: Report, lost: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[tuple[str, int], ...]:
    labels = labels_of(report)
    if labels is None:
        return ()
    counts = np.bincount(labels[lost], minlength=1)
    names = class_names(report)
    found = [(names[int(label)], int(counts[label])) for label in np.flatnonzero(counts)]
    return tuple(sorted(found, key=lambda pair: (-pair[1], pair[0])))
