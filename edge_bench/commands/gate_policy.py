"""`gate`: the policy and its circumstances from options, and the verdict to where it goes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_bench.core.errors import InputError
from edge_bench.terminal.console import annotate, put
from edge_bench.terminal.outputs import STDOUT, refuse_outputs, write_text

if TYPE_CHECKING:
    from edge_bench.core.spec import Report
    from edge_bench.policy.baseline import Baseline
    from edge_bench.policy.broken import Broken
    from edge_bench.policy.outcome import Verdict
    from edge_bench.policy.policy_file import Policy


@dataclass(frozen=True, kw_only=True)
class PolicyFlags:
    """How strictly conditions are decided, beside what they are."""

    policy: Annotated[
        Path | None, typer.Option(help="TOML file of conditions in tiers; doubts count, too.")
    ] = None
    require: Annotated[
        list[str] | None,
        typer.Option(help="A condition, such as 'worst_case >= 45%' or 'drop(clean) <= 1%'."),
    ] = None
    confidence: Annotated[
        float | None,
        typer.Option(help="Decide by intervals of this confidence, such as 0.95."),
    ] = None
    artifact: Annotated[
        Path | None,
        typer.Option(help="The file that ships, or its bundle, which the report must be of."),
    ] = None
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Write --baseline from this report, if it passes."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Where the verdict goes besides stdout."""

    junit: Annotated[Path | None, typer.Option(help="Write JUnit's XML here.")] = None
    md: Annotated[
        Path | None, typer.Option(help="Write a comment in Markdown here; - for stdout.")
    ] = None


def policy_of(flags: PolicyFlags, options: dict[str, Any]) -> Policy:
    """The policy of the file, with the conditions that were given as options before its own.

    Raises:
        InputError: nothing to check, or a condition that says nothing.
    """
    from edge_bench.core.gate import Gate
    from edge_bench.policy.condition import UNDOUBTED, Condition, parse_condition
    from edge_bench.policy.gate import conditions_of
    from edge_bench.policy.outcome import CRITICAL
    from edge_bench.policy.policy_file import (
        CONFIDENCES,
        Policy,
        check_conditions,
        is_confidence,
        read_policy,
    )

    given = conditions_of(Gate(**options))
    given += tuple(parse_condition(text) for text in flags.require or ())
    policy = Policy(conditions=())
    if flags.policy is not None:
        policy = read_policy(flags.policy)
        given += policy.conditions
        if all((c.metric, c.tier) != (UNDOUBTED, CRITICAL) for c in given):
            given += (Condition(metric=UNDOUBTED, said=UNDOUBTED),)
    if not given:
        raise InputError(
            "nothing to check; give a condition such as --min-robust-accuracy 0.45, or --policy"
        )
    check_conditions(given, str(flags.policy or "the options"))
    if flags.confidence is not None:
        if not is_confidence(flags.confidence):
            raise InputError(f"--confidence {flags.confidence}: expected {CONFIDENCES}")
        policy = replace(policy, confidence=flags.confidence)
    return replace(policy, conditions=given)


def judged(
    report: Report, policy: Policy, baseline: Baseline | None, artifact: Path | None
) -> Verdict:
    """The verdict on `report`.

    Raises:
        InputError: a baseline that no condition compares with.
    """
    from edge_bench.files.store import require_file
    from edge_bench.files.unpack import artifact_sha256
    from edge_bench.policy.condition import CHANGES
    from edge_bench.policy.evaluate import Circumstances, evaluate
    from edge_bench.report.doubts import doubts_in

    if baseline is not None and all(c.form not in CHANGES for c in policy.conditions):
        raise InputError(
            "a baseline and --max-robust-drop: expected both or neither, or a condition such as "
            "'drop(worst_case) <= 1%'"
        )
    sha256 = None
    if artifact is not None:
        require_file(artifact, "the artefact that ships")
        sha256 = artifact_sha256(artifact)
    circumstances = Circumstances(
        baseline=baseline, artifact_sha256=sha256, doubts=tuple(doubts_in(report))
    )
    return evaluate(report, policy, circumstances)


def update_baseline(
    report: Report, policy: Policy, path: Path | None, artifact: Path | None
) -> Verdict:
    """Judge the report by all but its changes, and make it the baseline where it passes.

    Raises:
        InputError: no --baseline to write.
    """
    from edge_bench.files.store import write_json
    from edge_bench.policy.baseline import WHAT, baseline_of, is_baseline
    from edge_bench.policy.condition import VALUE
    from edge_bench.policy.outcome import PASSED

    if path is None:
        raise InputError("--update-baseline: expected --baseline FILE to write; give it")
    if path.exists() and not is_baseline(path):
        raise InputError(
            f"{path}: --update-baseline writes over a baseline alone, and this is none ({WHAT}); "
            "name another file"
        )
    standing = tuple(c for c in policy.conditions if c.form == VALUE)
    verdict = judged(report, replace(policy, conditions=standing), None, artifact)
    if verdict.status == PASSED:
        write_json(path, baseline_of(report), force=True)
    return verdict


def require_outputs(
    flags: OutputFlags, read: tuple[Path | None, ...], decided: PolicyFlags, json_summary: bool
) -> None:
    """Refuse outputs that cannot be meant; besides `read`, policy and artefact are read.

    Raises:
        InputError: two texts for one place, or one that is read.
    """
    from edge_bench.files.bundle import is_bundle
    from edge_bench.files.external_data import model_files

    artifact = decided.artifact
    inputs = [path for path in (*read, decided.policy, artifact) if path is not None]
    if artifact is not None and artifact.is_file() and not is_bundle(artifact):
        inputs += model_files(artifact)
    outs = {"--junit": flags.junit, "--md": flags.md}
    refuse_outputs(outs, inputs, json_summary=json_summary)


def write_outputs(
    flags: OutputFlags,
    report: Report,
    verdict: Verdict,
    what_broke: Broken | None,
    json_summary: bool = False,
) -> None:
    """The files that were asked for, and what GitHub shows where it runs this.

    Its runner reads commands from either stream; stdout may be JSON or Markdown for a program.
    """
    from edge_bench.policy.told import as_github, as_junit, as_markdown

    if flags.junit is not None:
        write_text(flags.junit, as_junit(verdict, report))
    markdown = as_markdown(verdict, report, what_broke)
    if flags.md == STDOUT:
        put(markdown, end="")
    elif flags.md is not None:
        write_text(flags.md, markdown)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        taken = json_summary or flags.md == STDOUT
        for line in as_github(verdict, what_broke):
            annotate(line, aside=taken)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown)
