"""From file to logits, for people and machines: accuracy, stages, and what the way costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_bench.core.spec import AttackSpec, Report
from edge_bench.files.code.own_function import names_function
from edge_bench.statistics.path import PathGap, path_gap, path_gaps, right, stage_ns, worst_gap
from edge_bench.statistics.stats import wilson_interval

PATH_HEADER = ["from file to logits", "what", "value", "95% interval", "n"]
NOT_GONE = (
    "the card says no preprocessing and the pictures have another size than the model, so there is "
    "no way of the card's to compare with; adopt the model with --image-size"
)


def path_figures(report: Report) -> dict[str, Any] | None:
    """As plain JSON values, fractions and milliseconds; None where no pictures were walked."""
    walked = report.pictures
    if walked is None:
        return None
    mask, gap, worst = right(walked), path_gap(walked), worst_gap(walked)
    return {
        "pipeline": walked.pipeline,
        "preprocessing": str(walked.preprocessing) if walked.preprocessing else None,
        "attack": walked.attack and _crafted(report, walked.attack),
        "samples": len(mask),
        "accuracy": float(mask.mean()),
        "accuracy_interval": list(wilson_interval(int(mask.sum()), len(mask))),
        "latency_ms": {
            name: {"p50": round(p50, 4), "p95": round(p95, 4)}
            for name, (p50, p95) in _percentiles(report).items()
        },
        "path_gap": gap and _gap_figures(gap),
        "class_path_gap": {name: _gap_figures(each) for name, each in path_gaps(walked).items()},
        "worst_class_path_gap": worst and {"class": worst[0]} | _gap_figures(worst[1]),
    }


def path_rows(report: Report) -> list[list[str]]:
    """Rows of PATH_HEADER; none where no pictures were walked."""
    walked = report.pictures
    if walked is None:
        return []
    mask, gap, worst = right(walked), path_gap(walked), worst_gap(walked)
    how = f"; {walked.preprocessing or 'pictures as they are'}"
    if names_function(walked.pipeline):
        how = ""  # What the card says is not what the user's own function does.
    low, high = wilson_interval(int(mask.sum()), len(mask))
    samples = str(len(mask))
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    accuracy = f"{100 * mask.mean():.1f} %"
    rows = [["accuracy", f"by {walked.pipeline}{how}", accuracy, interval, samples]]
    if walked.attack is not None:
        rows.append(["pictures", _crafted(report, walked.attack), "", "", samples])
    if gap is None:
        rows.append(["path gap", NOT_GONE, "not known", "", ""])
    else:
        rows.append(["path gap", _told(gap), *_gap_cells(gap)])
        rows.append(["other class", "than on the card's way", f"{_changed(gap)} %", "", samples])
    if worst is not None and not worst[1].same_way:
        rows.append(["path gap, worst class", worst[0], *_gap_cells(worst[1])])
    for name, (p50, p95) in _percentiles(report).items():
        rows.append([f"latency, {name}", "p50, p95", f"{p50:.3f} ms, {p95:.3f} ms", "", samples])
    return rows


def _crafted(report: Report, attack: AttackSpec) -> str:
    """Whose weakness the pictures were made for."""
    assert report.pictures is not None, "asked of walked pictures alone"
    on = report.artifact.relation_to(report.pictures.attacked_sha256)
    return f"crafted by {attack.name} on {on}, {attack.ball}"


def _told(gap: PathGap) -> str:
    if gap.same_way:
        return "the card's own way"
    return f"accuracy minus that on the card's way; McNemar p = {gap.p_value:.2g}"


def _changed(gap: PathGap) -> str:
    return f"{100 * gap.changed / gap.samples:.1f}"


def _gap_cells(gap: PathGap) -> list[str]:
    low, high = gap.interval()
    interval = f"{100 * low:+.1f} to {100 * high:+.1f}"
    return [f"{100 * gap.gap:+.1f} points", interval, str(gap.samples)]


def _gap_figures(gap: PathGap) -> dict[str, Any]:
    return {
        "gap": gap.gap,
        "interval": list(gap.interval()),
        "p_value": gap.p_value,
        "changed": gap.changed / gap.samples,
        "samples": gap.samples,
    }


def _percentiles(report: Report) -> dict[str, tuple[float, float]]:
    """Median and p95 in ms by stage, and of all together; latencies that were really seen."""
    assert report.pictures is not None, "asked of walked pictures alone"
    found = {}
    for name, times in stage_ns(report.pictures).items():
        p50, p95 = np.quantile(times, (0.5, 0.95), method="higher") / 1e6
        found[name] = float(p50), float(p95)
    return found
