"""A verdict as people and machines read it: lines, JSON, Markdown, JUnit, GitHub's commands."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edge_bench.core.markdown import escaped, plain, table
from edge_bench.policy.broken import Broken
from edge_bench.policy.outcome import (
    ADVISORY,
    CRITICAL,
    FAILED,
    INCONCLUSIVE,
    PASSED,
    Outcome,
    Verdict,
    amount,
)

if TYPE_CHECKING:
    from edge_bench.core.spec import Report

SIGNS = {PASSED: "passed", FAILED: "**failed**", INCONCLUSIVE: "undecided"}
HEADER = ["condition", "tier", "observed", "limit", "interval", "samples", "outcome"]


def lines(verdict: Verdict, what_broke: Broken | None = None) -> list[str]:
    """A line for each condition that did not pass, what broke, and the verdict."""
    told = []
    for outcome in verdict.outcomes:
        if outcome.status != PASSED:
            tier = "" if outcome.tier == CRITICAL else f"({outcome.tier}) "
            undecided = "undecided: " if outcome.status == INCONCLUSIVE else ""
            told.append(f"gate: {tier}{undecided}{plain(outcome.sentence)}")
    if told and what_broke and what_broke.lost:
        told.append(f"gate: {plain(what_broke.sentence())}")
    return [*told, f"gate: {verdict.status}"]


def as_json(verdict: Verdict, what_broke: Broken | None = None) -> dict[str, Any]:
    """Plain JSON values; `violations` are the critical conditions that failed."""
    return {
        "passed": verdict.status == PASSED,
        "status": verdict.status,
        "violations": [
            {"condition": outcome.condition, "sentence": outcome.sentence}
            for outcome in verdict.outcomes
            if outcome.tier == CRITICAL and outcome.status == FAILED
        ],
        "outcomes": [asdict(outcome) for outcome in verdict.outcomes],
        "broken": asdict(what_broke) if what_broke else None,
    }


def as_markdown(verdict: Verdict, report: Report, what_broke: Broken | None = None) -> str:
    """A comment for a pull request: verdict, conditions, what broke."""
    device, artifact = report.device, report.artifact
    where = f"{device.device}, {report.backend.name} {report.backend.version}"
    parts = [
        f"### ardx gate: {verdict.status}\n",
        f"{escaped(artifact.path)} (`{artifact.sha256[:12]}`) on {escaped(where)}\n",
        table(HEADER, [_row(outcome) for outcome in verdict.outcomes]),
    ]
    open_ones = [o for o in verdict.outcomes if o.status != PASSED]
    if open_ones:
        parts.append("".join(f"- {escaped(o.sentence)}\n" for o in open_ones))
    if what_broke and (what_broke.lost or what_broke.won):
        parts.append(f"{escaped(what_broke.sentence())}\n")
    return "\n".join(parts)


def _row(outcome: Outcome) -> list[str]:
    unit = outcome.unit
    limit = outcome.threshold
    return [
        outcome.condition,
        outcome.tier,
        "" if outcome.observed is None else amount(outcome.observed, unit),
        "" if limit is None else f"{outcome.comparator} {amount(limit, unit)}",
        ""
        if outcome.interval is None
        else " to ".join(amount(end, unit) for end in outcome.interval),
        "" if outcome.samples is None else str(outcome.samples),
        outcome.status,
    ]


def as_junit(verdict: Verdict, report: Report) -> str:
    """JUnit's XML, a test case for each condition.

    A critical failure is a failure, an undecided critical condition an error, and what the other
    tiers did not pass is skipped with its sentence, so that it is seen and fails nothing.
    """
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

    suite = TestSuite("ardx gate")
    # Before the cases: schemas of JUnit's format want that order.
    suite.add_property("artefact", plain(report.artifact.path))
    suite.add_property("sha256", report.artifact.sha256)
    suite.add_property("device", plain(report.device.device))
    for outcome in verdict.outcomes:
        case = TestCase(plain(outcome.condition), classname=plain(f"ardx.{outcome.tier}"), time=0)
        sentence = plain(outcome.sentence)
        if outcome.status != PASSED and outcome.tier != CRITICAL:
            case.result = [Skipped(f"{outcome.status}: {sentence}")]
        elif outcome.status == FAILED:
            case.result = [Failure(sentence, "violation")]
        elif outcome.status == INCONCLUSIVE:
            case.result = [Error(sentence, "inconclusive")]
        case.system_out = sentence
        suite.add_testcase(case)
    xml = JUnitXml("ardx")
    xml.add_testsuite(suite)
    text: str | bytes = xml.tostring()  # type: ignore[no-untyped-call]
    told = text if isinstance(text, str) else text.decode("utf-8")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{told}\n'


def as_github(verdict: Verdict, what_broke: Broken | None = None) -> list[str]:
    """Workflow commands that GitHub shows beside the change."""
    told = []
    for outcome in verdict.outcomes:
        if outcome.status != PASSED:
            level = "error" if outcome.tier == CRITICAL else "warning"
            level = "notice" if outcome.tier == ADVISORY else level
            title = _property(f"ardx gate: {outcome.condition} {outcome.status}")
            told.append(f"::{level} title={title}::{_data(outcome.sentence)}")
    if told and what_broke and what_broke.lost:
        told.append(f"::notice title=ardx gate::{_data(what_broke.sentence())}")
    return told


def _data(text: str) -> str:
    return plain(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
