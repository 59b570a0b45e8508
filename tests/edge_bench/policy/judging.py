"""Reports held against conditions, and reports that lost some of their samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_bench.core.spec import Report
from edge_bench.policy.baseline import baseline_of
from edge_bench.policy.condition import parse_condition
from edge_bench.policy.evaluate import Circumstances, evaluate
from edge_bench.policy.outcome import Verdict
from edge_bench.policy.policy_file import Policy


def mask(right: int, wrong: int) -> str:
    return "1" * right + "0" * wrong


def verdict(
    report: Report,
    *conditions: str,
    baseline: Report | None = None,
    confidence: float | None = None,
    inconclusive: str = "exit",
    tier: str = "critical",
) -> Verdict:
    policy = Policy(
        conditions=tuple(parse_condition(text, tier) for text in conditions),
        confidence=confidence,
        inconclusive=inconclusive,
    )
    given = Circumstances(baseline=baseline_of(baseline) if baseline else None)
    return evaluate(report, policy, given)


def changed(report: Report, lost: int, won: int = 0) -> Report:
    """`report` with samples lost under its attack, and won."""
    (result,) = report.sets
    right = np.array(list(result.mask)) == "1"
    clean = np.array(list(report.clean_mask or "")) == "1"
    right[np.flatnonzero(right)[:lost]] = False
    right[np.flatnonzero(~right & clean)[-won:] if won else []] = True
    mask = "".join("01"[int(r)] for r in right)
    return replace(report, sets=(replace(result, mask=mask),))
