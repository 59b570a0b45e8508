"""A report's figures for people and machines, each derived from the raw samples."""

from __future__ import annotations

from typing import Any

from edge_bench.device_summary import device_figures
from edge_bench.fingerprint import differs
from edge_bench.metrics import accuracy, worst_case_mask
from edge_bench.spec import FingerprintResult, Report, SetResult
from edge_bench.stats import early_stopping_floor, wilson_interval
from edge_bench.timing import images_per_second, percentile_ms

PERCENTILES = (0.5, 0.9, 0.95, 0.99)


def summarise(report: Report) -> dict[str, Any]:
    """The figures of a report as plain JSON values; accuracies are fractions."""
    worst = worst_case_mask(report)
    return {
        "model": report.artifact.path,
        "sha256": report.artifact.sha256,
        "device": report.device.device,
        "backend": f"{report.backend.name} {report.backend.version}",
        "samples": len(report.clean_mask) if report.clean_mask else 0,
        "clean_accuracy": accuracy(report.clean_mask) if report.clean_mask else None,
        "robust_accuracy": {s.name: accuracy(s.mask) for s in report.sets},
        "threat": {s.name: threat_label(s) for s in report.sets},
        "worst_case_accuracy": accuracy(worst) if worst else None,
        "latency_ms": {
            f"p{round(p * 100)}": round(percentile_ms(report.latency, p), 4) for p in PERCENTILES
        },
        "latency_samples": len(report.latency.latency_ns),
        "latency_batch_size": report.latency.batch_size,
        "images_per_second": round(images_per_second(report.throughput), 1),
        "throughput_batch_size": report.throughput.batch_size,
        "peak_memory_bytes": report.peak_memory_bytes,
        "size_bytes": report.artifact.size_bytes,
        "fingerprint": _fingerprint(report.fingerprint),
        **device_figures(report),
    }


def _fingerprint(result: FingerprintResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "samples": result.samples,
        "same_class": result.same_class,
        "largest_difference": result.largest_difference,
        "tolerance": result.tolerance,
        "differs": differs(result),
    }


def accuracy_rows(report: Report) -> list[list[str]]:
    """One row per accuracy: what, threat, percent, its 95% Wilson interval, samples."""
    if report.clean_mask is None:
        return []
    rows = [_accuracy_row("clean", "none", report.clean_mask)]
    for result in report.sets:
        rows.append(_accuracy_row(result.name, threat_label(result), result.mask))
    worst = worst_case_mask(report)
    if worst is not None:
        rows.append(_accuracy_row("worst case", "all of the above, per sample", worst))
    return rows


def threat_label(result: SetResult) -> str:
    """What an accuracy stands for: the attacker's access to the artefact that was measured.

    A set crafted on anything else is a replay, however it was made there, and flatters.
    """
    threat = result.manifest.threat
    if threat == "imported":
        return "replay of an imported set"
    if result.relation == "this artefact" and threat != "replay":
        survivors = result.manifest.attacked == "survivors"
        return f"{threat} on this artefact" + (", on what the others left" if survivors else "")
    return f"replay of a set crafted on {result.relation}"


def performance_rows(report: Report) -> list[list[str]]:
    """Latency, throughput, memory and size with their units."""
    figures = summarise(report)
    rows = []
    for percentile, value in zip(PERCENTILES, figures["latency_ms"].values(), strict=True):
        name = f"latency p{round(percentile * 100)} (batch {report.latency.batch_size})"
        floor = early_stopping_floor(percentile)
        if figures["latency_samples"] < floor:
            name += f", of too few samples: {figures['latency_samples']} of {floor}"
        rows.append([name, f"{value:.3f} ms"])
    rows.append(["first inference", f"{report.latency.first_ns / 1e6:.3f} ms"])
    rows.append(
        [
            f"throughput (batch {report.throughput.batch_size})",
            f"{figures['images_per_second']:.0f} images/s",
        ]
    )
    rows.append(["peak memory of the process", f"{report.peak_memory_bytes / 2**20:.0f} MiB"])
    rows.append(["size", f"{report.artifact.size_bytes / 1024:.0f} KiB"])
    return rows


def _accuracy_row(name: str, threat: str, mask: str) -> list[str]:
    low, high = wilson_interval(mask.count("1"), len(mask))
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    return [name, threat, f"{100 * accuracy(mask):.1f} %", interval, str(len(mask))]
