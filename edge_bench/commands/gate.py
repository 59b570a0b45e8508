"""The command `gate`, and the conditions and verdicts that it shares with `bundle` and `bench`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_bench.commands.gate_policy import (
    OutputFlags,
    PolicyFlags,
    judged,
    policy_of,
    require_outputs,
    update_baseline,
    write_outputs,
)
from edge_bench.core.errors import (
    EXIT_GATE_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_PASS,
)
from edge_bench.terminal.console import print_json, put, say
from edge_bench.terminal.flags import Json, command
from edge_bench.terminal.outputs import STDOUT

if TYPE_CHECKING:
    from edge_bench.core.gate import Violation


@dataclass(frozen=True, kw_only=True)
class ConditionFlags:
    """What a report is held to: the fields of `Gate`, and the report to compare with."""

    min_robust_accuracy: Annotated[
        float | None, typer.Option(help="Least worst-case robust accuracy, a fraction.")
    ] = None
    min_clean_accuracy: Annotated[
        float | None, typer.Option(help="Least clean accuracy, a fraction.")
    ] = None
    max_divergence: Annotated[
        float | None,
        typer.Option(
            help="Largest share of images on which differential sets tell artefact and parent "
            "apart, a fraction."
        ),
    ] = None
    max_path_gap: Annotated[
        float | None,
        typer.Option(
            help="Most accuracy that the product's way from file to logits (bench --pictures "
            "--pipeline) may lose against the card's, a fraction."
        ),
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
    baseline: Annotated[
        Path | None, typer.Option(help="Earlier report, or baseline, to compare with.")
    ] = None
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
    decided: PolicyFlags
    outputs: OutputFlags
    json_summary: Json = False


def run_gate(flags: GateFlags) -> None:
    """Pass (exit 0) or fail (exit 1) a report, with a sentence per violation; undecided: exit 4.

    Example: ardx gate report.json --min-robust-accuracy 0.45 --max-latency-p95-ms 30
    """
    from edge_bench.files.report_file import read_report
    from edge_bench.policy.baseline import read_baseline
    from edge_bench.policy.broken import broken
    from edge_bench.policy.told import as_json, lines

    require_outputs(
        flags.outputs, (flags.report, flags.held_to.baseline), flags.decided, flags.json_summary
    )
    policy = policy_of(flags.decided, flags.held_to.conditions())
    report, path = read_report(flags.report), flags.held_to.baseline
    what_broke = None
    if flags.decided.update_baseline:
        decision = update_baseline(report, policy, path, flags.decided.artifact)
    else:
        baseline = read_baseline(path) if path else None
        decision = judged(report, policy, baseline, flags.decided.artifact)
        what_broke = broken(report, baseline)
    write_outputs(flags.outputs, report, decision, what_broke, flags.json_summary)
    if flags.json_summary:
        print_json(as_json(decision, what_broke))
    elif flags.outputs.md != STDOUT:
        put("\n".join(lines(decision, what_broke)))
    if code := EXITS[decision.status]:
        raise typer.Exit(code)


gate = command("gate", GateFlags, run_gate)
EXITS = {"passed": EXIT_PASS, "failed": EXIT_GATE_FAILED, "inconclusive": EXIT_INCONCLUSIVE}


def verdict(violations: list[Violation]) -> dict[str, object]:
    """The verdict as plain JSON values."""
    return {
        "passed": not violations,
        "violations": [{"condition": v.condition, "sentence": v.sentence} for v in violations],
    }


def print_verdict(violations: list[Violation]) -> None:
    """A line per violation, and the verdict."""
    for violation in violations:
        say(f"gate: {violation.sentence}")
    say("gate: failed" if violations else "gate: passed")
