"""What became of the conditions of a policy, with the figures that decided them."""

from __future__ import annotations

from dataclasses import dataclass

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
CRITICAL, SUPPORTING, ADVISORY = "critical", "supporting", "advisory"
TIERS = (CRITICAL, SUPPORTING, ADVISORY)


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
