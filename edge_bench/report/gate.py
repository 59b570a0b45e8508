"""Decide whether a report may ship. An unmeasured metric is a violation, never a pass."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edge_bench.core.errors import InconclusiveError, InputError, first_line
from edge_bench.core.metrics import accuracy, decode_mask, worst_case_mask
from edge_bench.core.spec import Gate, Report, Violation
from edge_bench.core.stats import early_stopping_floor, mcnemar_p_value, percentile_ms
from edge_bench.files.store import TEXT, require_file
from edge_bench.telemetry.energy import energy_per_image
from edge_bench.telemetry.throttling import throttling


def read_conditions(path: Path | None, options: dict[str, Any]) -> Gate:
    """Conditions of a TOML file, over which `options` that are not None win.

    Raises:
        InputError: no TOML, an unknown condition, or one that is no number.
    """
    given: dict[str, Any] = {}
    if path is not None:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        require_file(path, "a TOML file of gate conditions")
        try:
            given = tomllib.loads(path.read_text(encoding=TEXT))
        except ValueError as error:
            raise InputError(
                f"{path}: expected TOML, but {first_line(error)}; write lines such as "
                "min_robust_accuracy = 0.45"
            ) from None
    known = {f.name for f in fields(Gate)}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{path}: no condition {name}; known are {', '.join(sorted(known))}")
        expected, fits = _expected(name)
        if isinstance(value, bool) != (fits is bool) or not isinstance(value, fits):
            raise InputError(f"{path}: expected {expected} for {name}, came {value!r}")
    return Gate(**given | {name: value for name, value in options.items() if value is not None})


def _expected(name: str) -> tuple[str, Any]:
    """What a condition of that name takes, in words and as types."""
    if name == "no_throttling":
        return "true or false", bool
    if name == "max_size_bytes":
        return "a whole number", int
    return "a number", (int, float)


def check(report: Report, gate: Gate, baseline: Report | None = None) -> list[Violation]:
    """Every condition of `gate` that `report` does not meet.

    Example:
        violations = check(read_report(Path("report.json")), Gate(min_robust_accuracy=0.45))

    `max_robust_drop` compares worst cases sample by sample, so `baseline` must have seen the
    same images under attacks of the same names.

    Raises:
        InputError: nothing to check, or a baseline that cannot be compared.
        InconclusiveError: too few samples for a percentile or an energy, or an energy too
            uncertain for its limit, or throttling that may have gone unseen.
    """
    if gate == Gate():
        raise InputError("nothing to check; give a condition such as --min-robust-accuracy 0.45")
    if (gate.max_robust_drop is None) != (baseline is None):
        raise InputError("--baseline and --max-robust-drop: expected both or neither")
    found = [
        _check_accuracy(
            "clean accuracy", report.clean_mask, gate.min_clean_accuracy, "--min-clean-accuracy"
        ),
        _check_accuracy(
            "worst-case robust accuracy",
            worst_case_mask(report),
            gate.min_robust_accuracy,
            "--min-robust-accuracy",
        ),
        _check_size(report, gate),
        _check_drop(report, gate, baseline),
    ]
    undecided: InconclusiveError | None = None
    for decide in (_check_latency, _check_energy, _check_throttling):
        try:
            found.append(decide(report, gate))
        except InconclusiveError as error:
            undecided = undecided or error
    violations = [violation for violation in found if violation is not None]
    # What is proven to fail must not hide behind what could not be decided.
    if undecided and not violations:
        raise undecided
    return violations


def _check_accuracy(
    what: str, mask: str | None, minimum: float | None, option: str
) -> Violation | None:
    if minimum is None:
        return None
    if mask is None:
        return Violation(
            condition=option,
            sentence=f"{what} was not measured, but {option} asks for {minimum:.4g}; "
            "run ardx bench with --sets",
        )
    value = accuracy(mask)
    if value >= minimum:
        return None
    return Violation(
        condition=option,
        sentence=f"{what} is {value:.4f} on {len(mask)} samples, {minimum - value:.4f} below "
        f"{option} {minimum:.4g}",
    )


def _check_latency(report: Report, gate: Gate) -> Violation | None:
    limit = gate.max_latency_p95_ms
    if limit is None:
        return None
    if report.latency.batch_size != 1:
        return Violation(
            condition="--max-latency-p95-ms",
            sentence="p95 latency of one image was not measured, since the artefact is bound to "
            f"batches of {report.latency.batch_size}, but --max-latency-p95-ms asks for {limit:g}; "
            "export it with a free batch size",
        )
    floor, came = early_stopping_floor(0.95), len(report.latency.latency_ns)
    if came < floor:
        raise InconclusiveError(
            f"p95 latency needs {floor} samples or more, the report has {came}; "
            f"run ardx bench with --runs {floor} or more"
        )
    value = percentile_ms(report.latency, 0.95)
    if value <= limit:
        return None
    return Violation(
        condition="--max-latency-p95-ms",
        sentence=f"p95 latency is {value:.3f} ms over {came} runs, {value - limit:.3f} ms above "
        f"--max-latency-p95-ms {limit:g}",
    )


def _check_energy(report: Report, gate: Gate) -> Violation | None:
    limit, condition = gate.max_energy_mj, "--max-energy-mj"
    if limit is None:
        return None
    energy = energy_per_image(report.telemetry, "latency", report.latency)
    if energy is None:
        return Violation(
            condition=condition,
            sentence=f"energy per image was not measured, but {condition} asks for {limit:g}; "
            "run ardx bench where a sensor tells power (a Jetson, a Raspberry Pi 5)",
        )
    value, about = energy.per_image_mj, energy.uncertainty_mj
    if value + about <= limit:
        return None
    told = f"energy per image is {value:.3g} mJ, give or take {about:.2g}"
    if value - about <= limit:
        raise InconclusiveError(
            f"{told}, which does not decide {condition} {limit:g}; run ardx bench with more "
            "--seconds and --idle-seconds"
        )
    return Violation(
        condition=condition, sentence=f"{told}, {value - limit:.3g} above {condition} {limit:g}"
    )


def _check_throttling(report: Report, gate: Gate) -> Violation | None:
    if not gate.no_throttling:
        return None
    condition, found = "--no-throttling", throttling(report.telemetry)
    if found is None:
        return Violation(
            condition=condition,
            sentence=f"throttling was not measured, but {condition} asks for none; run ardx bench "
            "where a sensor tells it (a Jetson, a Raspberry Pi)",
        )
    if found.seen:
        return Violation(
            condition=condition,
            sentence=f"the device throttled while it was measured: {', '.join(found.seen)}; "
            "cool it, or give it a better supply or a lower power mode",
        )
    if found.hidden:
        raise InconclusiveError(
            f"short throttling may have gone unseen: {', '.join(found.hidden)}; restart the "
            "device and run ardx bench again"
        )
    return None


def _check_size(report: Report, gate: Gate) -> Violation | None:
    limit = gate.max_size_bytes
    if limit is None or report.artifact.size_bytes <= limit:
        return None
    return Violation(
        condition="--max-size-bytes",
        sentence=f"the artefact has {report.artifact.size_bytes} bytes, "
        f"{report.artifact.size_bytes - limit} above --max-size-bytes {limit}",
    )


def _check_drop(report: Report, gate: Gate, baseline: Report | None) -> Violation | None:
    limit = gate.max_robust_drop
    if limit is None or baseline is None:
        return None
    new_mask, old_mask = worst_case_mask(report), worst_case_mask(baseline)
    if new_mask is None or old_mask is None:
        which = "the report" if new_mask is None else "the baseline"
        return Violation(
            condition="--max-robust-drop",
            sentence=f"robust accuracy was not measured in {which}, but --max-robust-drop asks "
            "for a comparison; run ardx bench with --sets",
        )
    _check_comparable(report, baseline)
    new, old = decode_mask(new_mask), decode_mask(old_mask)
    drop = float(old.mean() - new.mean())
    # Masks are whole counts: a drop of exactly the limit must not fail by rounding.
    if drop <= limit + 1e-9:
        return None
    lost, won = int(np.sum(old & ~new)), int(np.sum(new & ~old))
    p_value = mcnemar_p_value(lost, won)
    verdict = "statistically real" if p_value < 0.05 else "within what chance explains"
    return Violation(
        condition="--max-robust-drop",
        sentence=f"worst-case robust accuracy fell from {old.mean():.4f} to {new.mean():.4f}, by "
        f"{drop:.4f}, above --max-robust-drop {limit:g} ({lost} samples lost, {won} won; exact "
        f"McNemar p = {p_value:.2g}: {verdict} at the 5% level)",
    )


def _check_comparable(report: Report, baseline: Report) -> None:
    if report.images_sha256 != baseline.images_sha256:
        raise InputError(
            "--baseline: was measured on other clean images than the report, so a drop per "
            "sample does not exist; bench both with sets over the same images"
        )
    new = {(s.name, s.manifest.attack) for s in report.sets}
    old = {(s.name, s.manifest.attack) for s in baseline.sets}
    if new != old:
        names = ", ".join(sorted({name for name, _ in new ^ old}))
        raise InputError(
            f"--baseline: was measured under other attacks than the report (they differ in "
            f"{names}); bench both with the same attacks"
        )
