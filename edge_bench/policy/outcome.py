"""What became of the conditions of a policy, with the figures that decided them."""

from __future__ import annotations

from dataclasses import dataclass, replace

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
CRITICAL, SUPPORTING, ADVISORY = "critical", "supporting", "advisory"
TIERS = (CRITICAL, SUPPORTING, ADVISORY)
ROUNDING = 1e-9
"""Accuracies are whole counts: one of exactly the limit must not fail by rounding."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One condition held against a report.

    Attributes:
        condition: as the policy calls it, such as `worst_case.floor`.
        metric: what was measured, for people.
        comparator: `>=`, `<=` or `==`, between `observed` and `threshold`.
        threshold: the limit; None where the condition has none, such as an excused doubt.
        observed: what the report says; None where it was not measured.
        unit: `fraction`, `ms`, `mJ`, `B`, `1/s`, or empty.
        samples: images, or calls, that `observed` comes from.
        interval: of `observed`, at the policy's confidence; None where it has none.
        tier: `critical`, `supporting` or `advisory`.
        status: `passed`, `failed` or `inconclusive`.
        sentence: for people; of a failure, by how much and what to do.
    """

    condition: str
    metric: str
    comparator: str
    threshold: float | None
    observed: float | None
    unit: str
    samples: int | None
    interval: tuple[float, float] | None
    tier: str
    status: str
    sentence: str

    def with_status(self, status: str, sentence: str | None = None) -> Outcome:
        """The same figures, decided."""
        told = self.sentence if sentence is None else sentence
        return replace(self, status=status, sentence=told)


def amount(value: float, unit: str) -> str:
    """A value with its unit, for sentences."""
    if unit == "fraction":
        return f"{value:.4f}"
    if unit == "ms":
        return f"{value:.3f} ms"
    if unit == "B":
        return f"{value:.0f} bytes"
    if unit == "1/s":
        return f"{value:.1f} images/s"
    return f"{value:.3g} {unit}".rstrip()


def observed_sentence(outcome: Outcome, said: str) -> str:
    """What was seen, and by how much that misses the limit, if it does."""
    observed, limit, unit = outcome.observed, outcome.threshold, outcome.unit
    assert observed is not None, "only what was measured is worded"
    assert limit is not None, "a word has sentences of its own"
    seen = f"{outcome.metric} is {amount(observed, unit)}"
    if unit == "B" and outcome.metric == "size":
        seen = f"the artefact has {amount(observed, unit)}"
    if unit == "fraction":
        seen += f" on {outcome.samples} samples"
    elif unit in ("ms", "1/s"):
        seen += f" over {outcome.samples} runs"
    if outcome.interval is not None:
        low, high = outcome.interval
        if unit == "mJ":
            seen += f", give or take {(high - low) / 2:.2g}"
        else:
            seen += f" (interval {amount(low, unit)} to {amount(high, unit)})"
    short = limit - observed if outcome.comparator == ">=" else observed - limit
    if short <= ROUNDING:
        return seen
    side = "below" if outcome.comparator == ">=" else "above"
    apart = f"{short:.0f}" if unit == "B" else amount(short, unit).removesuffix(" mJ")
    return f"{seen}, {apart} {side} {said}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcomes of all conditions, in the policy's order, and what follows from them."""

    outcomes: tuple[Outcome, ...]

    @property
    def status(self) -> str:
        """`failed` where a critical condition failed, else `inconclusive` where one is, else
        `passed`; the two other tiers are told and decide nothing."""
        critical = {outcome.status for outcome in self.outcomes if outcome.tier == CRITICAL}
        for status in (FAILED, INCONCLUSIVE):
            if status in critical:
                return status
        return PASSED
