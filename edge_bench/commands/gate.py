"""The command `gate`, and the conditions and verdicts that it shares with `bundle` and `bench`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_bench.commands.console import print_json
from edge_bench.commands.flags import Json, command
from edge_bench.core.errors import EXIT_GATE_FAILED

if TYPE_CHECKING:
    from edge_bench.core.spec import Violation


@dataclass(frozen=True, kw_only=True)
class ConditionFlags:
    """What a report is held to: the fields of `Gate`, and the report to compare with."""

    min_robust_accuracy: Annotated[
        float | None, typer.Option(help="Least worst-case robust accuracy, a fraction.")
    ] = None
    min_clean_accuracy: Annotated[
        float | None, typer.Option(help="Least clean accuracy, a fraction.")
    ] = None
    max_latency_p95_ms: Annotated[
        float | None, typer.Option(help="Largest p95 latency of one image.")
    ] = None
    max_size_bytes: Annotated[int | None, typer.Option(help="Largest artefact.")] = None
    max_energy_mj: Annotated[
        float | None,
        typer.Option(help="Most energy an image above idle, in mJ, at one image a call."),
    ] = None
    no_throttling: Annotated[
        bool, typer.Option("--no-throttling", help="Refuse what was measured while throttled.")
    ] = False
    baseline: Annotated[Path | None, typer.Option(help="Earlier report to compare with.")] = None
    max_robust_drop: Annotated[
        float | None, typer.Option(help="Largest drop against --baseline, a fraction.")
    ] = None

    def conditions(self) -> dict[str, Any]:
        """The conditions that were given, as fields of `Gate`."""
        values = asdict(self)
        del values["baseline"]
        return {n: value for n, value in values.items() if value is not None and value is not False}


@dataclass(frozen=True, kw_only=True)
class GateFlags:
    """The options of `gate`."""

    report: Annotated[Path, typer.Argument(help="Report written by bench.")]
    held_to: ConditionFlags
    json_summary: Json = False


def run_gate(flags: GateFlags) -> None:
    """Pass (exit 0) or fail (exit 1) a report, with a sentence per violation.

    Example: ardx gate report.json --min-robust-accuracy 0.45 --max-latency-p95-ms 30
    """
    from edge_bench.core.spec import Gate, Report
    from edge_bench.files.store import read_json
    from edge_bench.policy.gate import check

    conditions = Gate(**flags.held_to.conditions())
    what, baseline = "a report of ardx bench", flags.held_to.baseline
    old = read_json(baseline, Report, what) if baseline else None
    violations = check(read_json(flags.report, Report, what), conditions, old)
    if flags.json_summary:
        print_json(verdict(violations))
    else:
        print_verdict(violations)
    if violations:
        raise typer.Exit(EXIT_GATE_FAILED)


gate = command("gate", GateFlags, run_gate)


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
