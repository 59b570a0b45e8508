"""A report's figures for people and machines, each derived from the raw samples."""

from __future__ import annotations

from typing import Any

from edge_bench.core.spec import FingerprintResult, Report, SetResult
from edge_bench.core.timings import Measurement, Soak, SweepPoint
from edge_bench.files.fingerprint import differs
from edge_bench.options.setting import cores_text
from edge_bench.report.device_summary import device_figures
from edge_bench.report.path import path_figures
from edge_bench.statistics.apart import (
    Estimate,
    apart,
    corrupted,
    corruption_accuracy,
    corruption_loss,
)
from edge_bench.statistics.class_figures import by_class, class_figures
from edge_bench.statistics.class_figures import worst as worst_class
from edge_bench.statistics.generations import generations
from edge_bench.statistics.metrics import (
    BoolArray,
    accuracy,
    adversarial,
    class_names,
    labels_of,
    worst_case_mask,
)
from edge_bench.statistics.stats import early_stopping_floor, percentile_ms, wilson_interval
from edge_bench.timing.measure import images_per_second
from edge_bench.timing.soak import PARTS, drift
from edge_bench.timing.stability import stabilities

PERCENTILES = (0.5, 0.9, 0.95, 0.99)


def summarise(report: Report) -> dict[str, Any]:
    """The figures of a report as plain JSON values; accuracies are fractions.

    Example:
        print(summarise(report)["worst_case"])
    """
    worst = worst_case_mask(report)
    return {
        "model": report.artifact.path,
        "sha256": report.artifact.sha256,
        "device": report.device.device,
        "backend": f"{report.backend.name} {report.backend.version}",
        "samples": len(report.clean_mask) if report.clean_mask else 0,
        "clean_accuracy": accuracy(report.clean_mask) if report.clean_mask else None,
        "robust_accuracy": {s.name: accuracy(s.mask) for s in adversarial(report)},
        "threat": {s.name: threat_label(s) for s in report.sets},
        "generations": generations(report),
        "worst_case_accuracy": accuracy(worst) if worst else None,
        **_class_figures(report),
        "divergence": _divergence(report),
        "corruption": _corruption(report),
        "pictures": path_figures(report),
        "latency_ms": _latency_ms(report.latency),
        "latency_samples": len(report.latency.latency_ns),
        "latency_batch_size": report.latency.batch_size,
        "images_per_second": round(images_per_second(report.throughput), 1),
        "throughput_batch_size": report.throughput.batch_size,
        "peak_memory_bytes": report.peak_memory_bytes,
        "size_bytes": report.artifact.size_bytes,
        "fingerprint": _fingerprint(report.fingerprint),
        "scenarios": _scenarios(report),
        "sweep": [_point(point) for point in report.sweep],
        "soak": _soak(report.soak),
        "stability": {
            name: {
                "stable": found.stable,
                "symptoms": list(found.symptoms),
                "causes": list(found.causes),
            }
            for name, found in stabilities(report).items()
        },
        **device_figures(report),
    }


def _class_figures(report: Report) -> dict[str, Any]:
    """Class by class, clean and in the worst case; nothing where nobody kept the labels."""
    labels = labels_of(report)
    masks = {"clean": report.clean_mask, "worst_case": worst_case_mask(report)}
    known = {name: mask for name, mask in masks.items() if mask is not None}
    if labels is None or not known:
        return {"class_accuracy": None, "worst_class": None}
    return class_figures(known, labels, class_names(report))


def _divergence(report: Report) -> dict[str, Any] | None:
    """Shares of samples on which parent and artefact are told apart; None where nobody tried."""
    found = apart(report)
    if found is None:
        return None
    shares = {"unattacked": found.unattacked} | found.by_direction()
    return {
        name: {"share": float(mask.mean()), "interval": list(_wilson(mask))}
        for name, mask in shares.items()
    }


def _corruption(report: Report) -> dict[str, Any] | None:
    mean, loss = corruption_accuracy(report), corruption_loss(report)
    if mean is None:
        return None
    return {
        "accuracy": {s.name: accuracy(s.mask) for s in corrupted(report)},
        "mean_accuracy": mean.value,
        "mean_accuracy_interval": list(mean.interval()),
        "relative_loss": loss.value if loss else None,
        "relative_loss_interval": list(loss.interval()) if loss else None,
    }


def _wilson(mask: BoolArray) -> tuple[float, float]:
    return wilson_interval(int(mask.sum()), len(mask))


def _latency_ms(timed: Measurement) -> dict[str, float]:
    return {f"p{round(p * 100)}": round(percentile_ms(timed, p), 4) for p in PERCENTILES}


def _timing(timed: Measurement) -> dict[str, Any]:
    return {
        "batch_size": timed.batch_size,
        "latency_ms": _latency_ms(timed),
        "samples": len(timed.latency_ns),
        "images_per_second": round(images_per_second(timed), 1),
    }


def _scenarios(report: Report) -> dict[str, Any]:
    """What was asked for besides; MLPerf's three by their names."""
    found: dict[str, Any] = {}
    if report.multi_stream:
        found["multi-stream"] = _timing(report.multi_stream)
    if report.offline:
        found["offline"] = [_timing(timed) for timed in report.offline]
    return found


def _point(point: SweepPoint) -> dict[str, Any]:
    return {"threads": point.threads, "cores": point.cores} | _timing(point.timed)


def _soak(soak: Soak | None) -> dict[str, Any] | None:
    if soak is None:
        return None
    told = drift(soak)
    return {
        "minutes": soak.minutes,
        "samples": told.samples,
        "median_ms": [round(ms, 4) for ms in told.median_ms],
        "p99_ms": [round(ms, 4) for ms in told.p99_ms],
        "change": round(told.change, 4),
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
        left_out = len(adversarial(report)) < len(report.sets)
        over = "all attacks on it, per sample" if left_out else "all of the above, per sample"
        rows.append(_accuracy_row("worst case", over, worst))
    labels = labels_of(report)
    if labels is not None:
        for name, mask in (("clean", report.clean_mask), ("worst case", worst)):
            if mask is not None:
                lowest = worst_class(by_class(mask, labels, class_names(report)))
                rows.append(_accuracy_row(f"{name}, worst class", lowest.name, lowest.mask))
    return rows


COMPARED_HEADER = ["beside the parent", "what", "value", "95% interval", "n"]


def compared_rows(report: Report) -> list[list[str]]:
    """What differs from the parent: divergence by direction, and what corruptions cost."""
    rows = []
    if (found := apart(report)) is not None:
        words = {
            "unattacked": "other classes on the clean image",
            "either": "told apart within the budget",
            "artefact": "parent right, artefact wrong",
            "parent": "artefact right, parent wrong",
        }
        for name, mask in ({"unattacked": found.unattacked} | found.by_direction()).items():
            low, high = _wilson(mask)
            interval = f"{100 * low:.1f} to {100 * high:.1f}"
            row = [f"divergence, {name}", words[name], f"{100 * mask.mean():.1f} %", interval]
            rows.append([*row, str(len(mask))])
    for name, what, estimate in (
        ("corruption", "mean accuracy", corruption_accuracy(report)),
        ("corruption loss", "of the parent's mean accuracy", corruption_loss(report)),
    ):
        if estimate is not None:
            rows.append([name, what, *_percent(estimate), str(estimate.samples)])
    return rows


def _percent(estimate: Estimate) -> list[str]:
    low, high = estimate.interval()
    return [f"{100 * estimate.value:.1f} %", f"{100 * low:.1f} to {100 * high:.1f}"]


def threat_label(result: SetResult) -> str:
    """What an accuracy stands for: the attacker's access to the artefact that was measured.

    A set crafted on anything else is a replay, however it was made there, and flatters.
    """
    times = len(result.manifest.refreshed)
    again = f", refreshed {times} time{'s' if times > 1 else ''}" if times else ""
    return _threat(result) + again


def _threat(result: SetResult) -> str:
    threat, attack = result.manifest.threat, result.manifest.attack
    if threat == "corruption":
        return "corruption, no attack; not in the worst case"
    if threat == "differential":
        beside = "" if result.relation == "this artefact" else f" on {result.relation}"
        return f"differential{beside}, the {attack.direction} to err; not in the worst case"
    if threat == "imported":
        return "replay of an imported set"
    if result.relation == "this artefact" and threat != "replay":
        survivors = result.manifest.attacked == "survivors"
        return f"{threat} on this artefact" + (", on what the others left" if survivors else "")
    return f"replay of a set crafted on {result.relation}"


def performance_rows(report: Report) -> list[list[str]]:
    """Latency, throughput, their stability, memory and size with their units."""
    rows = _latency_rows("latency", report.latency)
    rows.append(["first inference", f"{report.latency.first_ns / 1e6:.3f} ms"])
    rows.append(_throughput_row("throughput", report.throughput))
    if report.multi_stream:
        rows += _latency_rows("multi-stream", report.multi_stream)
    rows += [_throughput_row("offline", timed) for timed in report.offline]
    if report.soak:
        told = drift(report.soak)
        what = f"soak of {report.soak.minutes:g} min, median of each {PARTS}th of the time"
        medians = " ".join(f"{ms:.3f}" for ms in told.median_ms)
        rows.append([what, f"{medians} ms ({told.change:+.1%})"])
    for name, found in stabilities(report).items():
        rows.append([f"timing of {name}", "stable" if found.stable else "unstable, see above"])
    rows.append(["peak memory of the process", f"{report.peak_memory_bytes / 2**20:.0f} MiB"])
    rows.append(["size", f"{report.artifact.size_bytes / 1024:.0f} KiB"])
    return rows


SWEEP_HEADER = ["threads", "cores", "batch", "p50", "p90", "images/s"]


def sweep_rows(report: Report) -> list[list[str]]:
    """A row per setting; settings that were left alone are dashes."""
    return [
        [
            str(point.threads or "-"),
            cores_text(point.cores) if point.cores else "-",
            str(point.timed.batch_size),
            f"{percentile_ms(point.timed, 0.5):.3f} ms",
            f"{percentile_ms(point.timed, 0.9):.3f} ms",
            f"{images_per_second(point.timed):.0f}",
        ]
        for point in report.sweep
    ]


def _latency_rows(what: str, timed: Measurement) -> list[list[str]]:
    rows = []
    for percentile in PERCENTILES:
        name = f"{what} p{round(percentile * 100)} (batch {timed.batch_size})"
        floor = early_stopping_floor(percentile)
        if len(timed.latency_ns) < floor:
            name += f", of too few samples: {len(timed.latency_ns)} of {floor}"
        rows.append([name, f"{percentile_ms(timed, percentile):.3f} ms"])
    return rows


def _throughput_row(what: str, timed: Measurement) -> list[str]:
    return [f"{what} (batch {timed.batch_size})", f"{images_per_second(timed):.0f} images/s"]


def _accuracy_row(name: str, threat: str, mask: str) -> list[str]:
    low, high = wilson_interval(mask.count("1"), len(mask))
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    return [name, threat, f"{100 * accuracy(mask):.1f} %", interval, str(len(mask))]
