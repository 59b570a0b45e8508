"""Hold a report against a policy. What was not measured is a failure, never a pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone

from edge_bench.core.errors import InconclusiveError, InputError
from edge_bench.core.spec import Report
from edge_bench.files.fingerprint import difference_sentence, differs
from edge_bench.policy.baseline import Baseline
from edge_bench.policy.change import Against, decide_change
from edge_bench.policy.comparable import check_comparable
from edge_bench.policy.condition import (
    AT_LEAST,
    UNDOUBTED,
    UNTHROTTLED,
    VALIDATED,
    VALUE,
    WORDS,
    Condition,
)
from edge_bench.policy.measured import Measured, measured
from edge_bench.policy.outcome import (
    CRITICAL,
    FAILED,
    INCONCLUSIVE,
    PASSED,
    ROUNDING,
    Outcome,
    Verdict,
    observed_sentence,
)
from edge_bench.policy.policy_file import EXIT, FAIL, Policy
from edge_bench.telemetry.throttling import throttling

DAY_S = 86400.0
CLOCKS_APART_S = 300.0
"""A report may be from the future by so much: two machines' clocks are never quite the same."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a policy asks of a report besides its figures.

    Attributes:
        baseline: what changes are measured against.
        artifact_sha256: of the file that ships; None where none was named.
        doubts: sentences about the report (`report.doubts`); None where none are asked for.
        now: what the age of the report is counted to.
    """

    baseline: Baseline | None = None
    artifact_sha256: str | None = None
    doubts: tuple[str, ...] | None = None
    now: datetime | None = None


def evaluate(report: Report, policy: Policy, circumstances: Circumstances | None = None) -> Verdict:
    """Every condition of `policy`, decided.

    Example:
        verdict = evaluate(report, read_policy(Path("gate.toml")))
        print(verdict.status, [outcome.sentence for outcome in verdict.outcomes])

    Raises:
        InputError: a change is asked for without a baseline, or with one that cannot be compared.
    """
    given = circumstances or Circumstances()
    changes = [c for c in policy.conditions if c.form != VALUE]
    if changes and given.baseline is None:
        raise InputError(f"{changes[0].said}: compares with a baseline; give --baseline FILE")
    if changes and given.baseline is not None:
        check_comparable(report, given.baseline, changes)
    outcomes = _about_the_report(report, policy, given)
    for condition in policy.conditions:
        outcomes += _decided(report, condition, policy, given)
    return Verdict(outcomes=tuple(_as_asked(outcome, policy) for outcome in outcomes))


def _as_asked(outcome: Outcome, policy: Policy) -> Outcome:
    """What is inconclusive becomes what the policy says of such."""
    if outcome.status != INCONCLUSIVE or policy.inconclusive == EXIT:
        return outcome
    return outcome.with_status(FAILED if policy.inconclusive == FAIL else PASSED)


def _decided(
    report: Report, condition: Condition, policy: Policy, given: Circumstances
) -> list[Outcome]:
    found = _held(report, condition, policy, given)
    # What was given as an option is called as the option.
    option = condition.said.split()[0] if condition.said.startswith("--") else None
    return [replace(outcome, condition=option) for outcome in found] if option else found


def _held(
    report: Report, condition: Condition, policy: Policy, given: Circumstances
) -> list[Outcome]:
    if condition.metric in WORDS:
        return [_word(report, condition, policy, given)]
    try:
        figures = measured(report, condition.metric)
    except InconclusiveError as error:
        return [_told(condition, condition.metric, INCONCLUSIVE, str(error))]
    if condition.form != VALUE:
        assert given.baseline is not None, "evaluate refuses changes without one"
        against = Against(baseline=given.baseline, report=report, policy=policy)
        return [decide_change(name, figure, condition, against) for name, figure in figures]
    return [_decide_value(name, figure, condition, policy) for name, figure in figures]


def _decide_value(name: str, figure: Measured, condition: Condition, policy: Policy) -> Outcome:
    limit, comparator = condition.limit, condition.comparator
    assert limit is not None, "only words have no limit"
    outcome = Outcome(
        condition=name,
        metric=figure.metric,
        comparator=comparator,
        threshold=limit,
        observed=figure.value,
        unit=figure.unit,
        samples=figure.samples,
        interval=_interval(figure, policy),
        tier=condition.tier,
        status=PASSED,
        sentence="",
    )
    if figure.value is None:
        sentence = f"{figure.metric} was not measured, but {condition.said} asks for it"
        return outcome.with_status(FAILED, f"{sentence}; {figure.missing}")
    if figure.too_few:
        return outcome.with_status(INCONCLUSIVE, figure.too_few)
    if policy.confidence is not None and figure.interval and outcome.interval is None:
        return outcome.with_status(INCONCLUSIVE, figure.too_few_for(policy.confidence))
    low, high = outcome.interval or (figure.value, figure.value)
    worst, best = (low, high) if comparator == AT_LEAST else (-high, -low)
    bound = limit if comparator == AT_LEAST else -limit
    said = observed_sentence(outcome, condition.said)
    if worst >= bound - ROUNDING:
        return outcome.with_status(PASSED, said)
    if best < bound - ROUNDING:
        return outcome.with_status(FAILED, said)
    return outcome.with_status(
        INCONCLUSIVE, f"{said}, which does not decide {condition.said}; {_more(outcome)}"
    )


def _interval(figure: Measured, policy: Policy) -> tuple[float, float] | None:
    """Of an energy in any case: it is a difference of noisy readings, whatever the policy."""
    if figure.interval is None or (policy.confidence is None and figure.unit != "mJ"):
        return None
    return figure.interval(policy.confidence or 0.95)


def _more(outcome: Outcome) -> str:
    if outcome.unit == "fraction":
        return "replay more images, or allow what chance explains"
    if outcome.unit == "mJ":
        return "run ardx bench with more --seconds and --idle-seconds"
    return "run ardx bench with more --runs"


def _told(condition: Condition, name: str, status: str, sentence: str) -> Outcome:
    return Outcome(
        condition=name,
        metric=WORDS.get(condition.metric, condition.metric),
        comparator=condition.comparator if condition.limit is not None else "==",
        threshold=condition.limit,
        observed=None,
        unit="",
        samples=None,
        interval=None,
        tier=condition.tier,
        status=status,
        sentence=sentence,
    )


def _word(report: Report, condition: Condition, policy: Policy, given: Circumstances) -> Outcome:
    if condition.metric == UNTHROTTLED:
        status, sentence = _throttled(report, condition)
    elif condition.metric == VALIDATED:
        status, sentence = _validated(report, condition)
    else:
        assert condition.metric == UNDOUBTED
        status, sentence = _undoubted(given.doubts or (), policy.excuse)
    return _told(condition, condition.metric, status, sentence)


def _throttled(report: Report, condition: Condition) -> tuple[str, str]:
    found = throttling(report.telemetry)
    if found is None:
        return FAILED, (
            f"throttling was not measured, but {condition.said} asks for none; run ardx bench "
            "where a sensor tells it (a Jetson, a Raspberry Pi)"
        )
    if found.seen:
        return FAILED, (
            f"the device throttled while it was measured: {', '.join(found.seen)}; "
            "cool it, or give it a better supply or a lower power mode"
        )
    if found.hidden:
        return INCONCLUSIVE, (
            f"short throttling may have gone unseen: {', '.join(found.hidden)}; restart the "
            "device and run ardx bench again"
        )
    return PASSED, "the device did not throttle"


def _validated(report: Report, condition: Condition) -> tuple[str, str]:
    if report.fingerprint is None:
        return FAILED, (
            f"the runtime was not compared with the one of ardx export, but {condition.said} asks "
            "for it; lay the artefact's fingerprint beside it and run ardx bench again"
        )
    if differs(report.fingerprint):
        return FAILED, difference_sentence(report) or ""
    return PASSED, "the runtime answers as the artefact was validated"


def _undoubted(doubts: tuple[str, ...], excuse: tuple[str, ...]) -> tuple[str, str]:
    left = [doubt for doubt in doubts if not any(part in doubt for part in excuse)]
    if left:
        return FAILED, f"{left[0]}{f' (and {len(left) - 1} more)' if left[1:] else ''}"
    return PASSED, f"no doubts{f' but {len(doubts)} excused' if doubts else ''}"


def _about_the_report(report: Report, policy: Policy, given: Circumstances) -> list[Outcome]:
    """Is it of the file, the device and the days that the policy is about?"""
    found = []
    if given.artifact_sha256 is not None:
        same = given.artifact_sha256 == report.artifact.sha256
        found.append(
            _fact(
                "artifact",
                "the file that ships",
                same,
                "the report is of the file that ships"
                if same
                else f"the report is of another artefact ({report.artifact.sha256[:12]}) than the "
                f"file that ships ({given.artifact_sha256[:12]}); run ardx bench on that file",
            )
        )
    if policy.device is not None:
        came = report.device.device
        found.append(
            _fact(
                "device",
                "class of device",
                came == policy.device,
                f"measured on {came}"
                + (
                    ""
                    if came == policy.device
                    else f", but the policy asks for {policy.device}; run ardx bench there"
                ),
            )
        )
    if policy.max_age_days is not None:
        found.append(_age(report, policy.max_age_days, given.now or datetime.now(timezone.utc)))
    return found


def _age(report: Report, most: float, now: datetime) -> Outcome:
    seconds = (now - report.made_at).total_seconds()
    days = max(seconds, 0.0) / DAY_S
    fresh = seconds >= -CLOCKS_APART_S and days <= most
    sentence = f"the report is {days:.1f} days old"
    if seconds < -CLOCKS_APART_S:
        sentence = (
            f"the report was made {-seconds / DAY_S:.3g} days from now; see to the device's clock"
        )
    elif not fresh:
        sentence += f", {days - most:.1f} more than the policy allows; run ardx bench again"
    return _fact("max_age_days", "age of the report in days", fresh, sentence)


def _fact(name: str, metric: str, holds: bool, sentence: str) -> Outcome:
    return Outcome(
        condition=name,
        metric=metric,
        comparator="==",
        threshold=None,
        observed=None,
        unit="",
        samples=None,
        interval=None,
        tier=CRITICAL,
        status=PASSED if holds else FAILED,
        sentence=sentence,
    )
