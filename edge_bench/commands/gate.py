"""The command `gate`, and the conditions and verdicts that it shares with `bundle` and `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_bench.commands.console import print_json
from edge_bench.core.errors import EXIT_GATE_FAILED

if TYPE_CHECKING:
    from edge_bench.core.spec import Violation

Json = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what --out names.")]
MinRobust = Annotated[
    float | None, typer.Option(help="Least worst-case robust accuracy, a fraction.")
]
MinClean = Annotated[float | None, typer.Option(help="Least clean accuracy, a fraction.")]
MaxLatency = Annotated[float | None, typer.Option(help="Largest p95 latency of one image.")]
MaxSize = Annotated[int | None, typer.Option(help="Largest artefact.")]
MaxEnergy = Annotated[
    float | None, typer.Option(help="Most energy an image above idle, in mJ, at one image a call.")
]
NoThrottling = Annotated[
    bool, typer.Option("--no-throttling", help="Refuse what was measured while throttled.")
]
Baseline = Annotated[Path | None, typer.Option(help="Earlier report to compare with.")]
MaxDrop = Annotated[float | None, typer.Option(help="Largest drop against --baseline, a fraction.")]


def gate(
    report: Annotated[Path, typer.Argument(help="Report written by bench.")],
    min_robust_accuracy: MinRobust = None,
    min_clean_accuracy: MinClean = None,
    max_latency_p95_ms: MaxLatency = None,
    max_size_bytes: MaxSize = None,
    max_energy_mj: MaxEnergy = None,
    no_throttling: NoThrottling = False,
    baseline: Baseline = None,
    max_robust_drop: MaxDrop = None,
    json_summary: Json = False,
) -> None:
    """Pass (exit 0) or fail (exit 1) a report, with a sentence per violation.

    Example: ardx gate report.json --min-robust-accuracy 0.45 --max-latency-p95-ms 30
    """
    from edge_bench.core.spec import Gate, Report
    from edge_bench.files.store import read_json
    from edge_bench.report.gate import check

    conditions = Gate(
        min_clean_accuracy=min_clean_accuracy,
        min_robust_accuracy=min_robust_accuracy,
        max_latency_p95_ms=max_latency_p95_ms,
        max_size_bytes=max_size_bytes,
        max_energy_mj=max_energy_mj,
        no_throttling=no_throttling,
        max_robust_drop=max_robust_drop,
    )
    what = "a report of ardx bench"
    old = read_json(baseline, Report, what) if baseline else None
    violations = check(read_json(report, Report, what), conditions, old)
    if json_summary:
        print_json(verdict(violations))
    else:
        print_verdict(violations)
    if violations:
        raise typer.Exit(EXIT_GATE_FAILED)


def verdict(violations: list[Violation]) -> dict[str, object]:
    """The verdict as plain JSON values."""
    return {
        "passed": not violations,
        "violations": [{"condition": v.condition, "sentence": v.sentence} for v in violations],
    }


def print_verdict(violations: list[Violation]) -> None:
    """A line per violation, and the verdict."""
    for violation in violations:
        print(f"gate: {violation.sentence}")
    print("gate: failed" if violations else "gate: passed")
