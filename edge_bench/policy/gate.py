"""The conditions that commands take as options, held against a report."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from edge_bench.core.errors import InconclusiveError, InputError
from edge_bench.core.gate import Gate, Violation
from edge_bench.core.spec import Report
from edge_bench.files.store import parsed_toml
from edge_bench.policy.baseline import Baseline, baseline_of
from edge_bench.policy.condition import AT_LEAST, AT_MOST, DROP, UNTHROTTLED, VALUE, Condition
from edge_bench.policy.evaluate import Circumstances, evaluate
from edge_bench.policy.outcome import FAILED, INCONCLUSIVE
from edge_bench.policy.policy_file import Policy


def read_conditions(path: Path | None, options: dict[str, Any]) -> Gate:
    """Conditions of a TOML file, over which `options` that are not None win.

    Raises:
        InputError: no TOML, an unknown condition, or one that is no number.
    """
    given: dict[str, Any] = {}
    if path is not None:
        what, example = "a TOML file of gate conditions", "min_robust_accuracy = 0.45"
        given = parsed_toml(path, what, example)
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


OPTIONS: dict[str, tuple[str, str]] = {
    "min_clean_accuracy": ("clean", VALUE),
    "min_robust_accuracy": ("worst_case", VALUE),
    "max_size_bytes": ("size_bytes", VALUE),
    "max_robust_drop": ("worst_case", DROP),
    "max_divergence": ("divergence", VALUE),
    "max_path_gap": ("path_gap", VALUE),
    "max_latency_p95_ms": ("latency_p95_ms", VALUE),
    "max_energy_mj": ("energy_mj", VALUE),
}
"""The metric and the form of each field of `Gate` that is a number."""


def conditions_of(gate: Gate) -> tuple[Condition, ...]:
    """The conditions of a `Gate`, each said as its option."""
    found = []
    for name, (metric, form) in OPTIONS.items():
        limit = getattr(gate, name)
        if limit is not None:
            option = "--" + name.replace("_", "-")
            comparator = AT_LEAST if name.startswith("min") else AT_MOST
            found.append(
                Condition(
                    metric=metric,
                    form=form,
                    comparator=comparator,
                    limit=float(limit),
                    said=f"{option} {limit:.6g}"
                    if isinstance(limit, float)
                    else f"{option} {limit}",
                )
            )
    if gate.no_throttling:
        found.append(Condition(metric=UNTHROTTLED, said="--no-throttling"))
    return tuple(found)


def check(report: Report, gate: Gate, baseline: Report | Baseline | None = None) -> list[Violation]:
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
    conditions = conditions_of(gate)
    old = baseline_of(baseline) if isinstance(baseline, Report) else baseline
    verdict = evaluate(report, Policy(conditions=conditions), Circumstances(baseline=old))
    decided = list(zip(conditions, verdict.outcomes, strict=True))
    violations = [
        Violation(condition=condition.said.split()[0], sentence=outcome.sentence)
        for condition, outcome in decided
        if outcome.status == FAILED
    ]
    undecided = [outcome.sentence for _, outcome in decided if outcome.status == INCONCLUSIVE]
    # What is proven to fail must not hide behind what could not be decided.
    if undecided and not violations:
        raise InconclusiveError(undecided[0])
    return violations
