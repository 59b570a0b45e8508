"""One condition on a report, as people write it: `worst_case >= 0.45`, `drop(clean) <= 1%`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from edge_bench.core.errors import InputError
from edge_bench.policy.outcome import CRITICAL
from edge_bench.statistics.path import PATH_ACCURACY

VALUE, DROP, RELATIVE_DROP, RISE, RELATIVE_RISE = (
    "value",
    "drop",
    "relative_drop",
    "rise",
    "relative_rise",
)
CHANGES = (DROP, RELATIVE_DROP, RISE, RELATIVE_RISE)
"""Forms that compare with a baseline."""

AT_LEAST, AT_MOST = ">=", "<="
UNTHROTTLED, VALIDATED, UNDOUBTED = "no_throttling", "fingerprint", "no_doubts"
WORDS = {
    UNTHROTTLED: "the device did not throttle while it was measured",
    VALIDATED: "the runtime answers as the artefact was validated",
    UNDOUBTED: "no doubts but excused ones",
}
"""Conditions without a limit, which are a word alone."""

FRACTIONS = ("clean", "worst_case", "worst_class", PATH_ACCURACY)
PER_NAME = ("attack", "class", "clean_class")
ALL = "*"
BESIDE = {
    "divergence": AT_MOST,
    "divergence_artefact": AT_MOST,
    "divergence_parent": AT_MOST,
    "corruption": AT_LEAST,
    "corruption_loss": AT_MOST,
    "path_gap": AT_MOST,
}
"""Fractions beside the parent's answers, or beside the card's way from files on, and the comparator
of each; no baseline holds them."""
PERFORMANCE = {
    "latency_p50_ms": AT_MOST,
    "latency_p95_ms": AT_MOST,
    "latency_p99_ms": AT_MOST,
    "images_per_second": AT_LEAST,
    "energy_mj": AT_MOST,
    "size_bytes": AT_MOST,
    "memory_bytes": AT_MOST,
}
"""The comparator of each: the side on which the better values lie."""

PATTERN = re.compile(
    r"\s*(?:(?P<form>[a-z_]+)\s*\(\s*(?P<of>[^()]+?)\s*\)|(?P<metric>[^()<>=]+?))\s*"
    r"(?P<comparator>>=|<=)\s*(?P<limit>\S+?)\s*(?P<percent>%?)\s*"
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition on one metric, or a word of WORDS.

    Attributes:
        metric: a name of FRACTIONS, BESIDE or PERFORMANCE, `attack:NAME`, `class:NAME`,
            `clean_class:NAME`, where NAME may be ALL, or a word.
        form: VALUE, or a change against the baseline in its favour or to its cost.
        limit: fraction, milliseconds, images a second, millijoules or bytes; None of a word.
        tier: one of `outcome.TIERS`.
        said: how the user wrote it, which sentences repeat: `--max-size-bytes 4096`.
    """

    metric: str
    form: str = VALUE
    comparator: str = AT_LEAST
    limit: float | None = None
    tier: str = CRITICAL
    said: str

    @property
    def name(self) -> str:
        """Short and unique among the conditions of a policy that ask for different things."""
        return self.metric if self.form == VALUE else f"{self.form}({self.metric})"


def parse_condition(text: str, tier: str = CRITICAL, where: str = "--require") -> Condition:
    """Read a condition.

    Raises:
        InputError: not of the form, an unknown metric, or a limit that can never decide.
    """
    if text.strip() in WORDS:
        return Condition(metric=text.strip(), tier=tier, said=text.strip())
    match = PATTERN.fullmatch(text)
    if match is None:
        raise InputError(
            f"{where}: expected a condition such as 'worst_case >= 0.45', 'drop(clean) <= 1%' or "
            f"one of {', '.join(WORDS)}, came {text!r}"
        )
    form, metric = match["form"] or VALUE, match["of"] or match["metric"]
    if form not in (VALUE, *CHANGES):
        raise InputError(
            f"{where}: {text}: expected one of {', '.join(CHANGES)} before the bracket, came {form}"
        )
    check_metric(metric, f"{where}: {text}")
    condition = Condition(
        metric=metric,
        form=form,
        comparator=match["comparator"],
        limit=_limit(match["limit"], f"{where}: {text}") / (100 if match["percent"] else 1),
        tier=tier,
        said=text.strip(),
    )
    if match["percent"] and metric in PERFORMANCE and form not in (RELATIVE_DROP, RELATIVE_RISE):
        relative = RELATIVE_DROP if PERFORMANCE[metric] == AT_LEAST else RELATIVE_RISE
        instead = "" if form == VALUE else f", or {relative}({metric})"
        raise InputError(
            f"{where}: {text}: expected a number in the unit of {metric}{instead}, came percent"
        )
    _check_sense(condition, where)
    return condition


def is_fraction(metric: str) -> bool:
    """Is it an accuracy?"""
    return metric in FRACTIONS or metric.partition(":")[0] in PER_NAME


def check_metric(metric: str, where: str) -> None:
    """Refuse what is no metric.

    Raises:
        InputError: gives those that are known.
    """
    kind, colon, name = metric.partition(":")
    single = (*FRACTIONS, *BESIDE, *PERFORMANCE)
    if metric in single or (kind in PER_NAME and colon and name):
        return
    known = [*FRACTIONS, *(f"{kind}:NAME" for kind in PER_NAME), *BESIDE, *PERFORMANCE]
    raise InputError(f"{where}: expected a metric of {', '.join(known)}, came {metric}")


def _limit(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value < 0:
        raise InputError(f"{where}: expected a limit of 0 or more, came {text}")
    return value


def _check_sense(condition: Condition, where: str) -> None:
    """A limit on the wrong side, or beyond what can be, would pass or fail whatever is measured."""
    metric, said = condition.metric, f"{where}: {condition.said}"
    fraction = is_fraction(metric)
    comparator = (BESIDE | PERFORMANCE).get(metric, AT_LEAST)
    better_is_more = comparator == AT_LEAST
    if condition.form != VALUE and metric in BESIDE:
        raise InputError(f"{said}: no baseline holds it; expected {metric} {comparator} LIMIT")
    if condition.form != VALUE:
        wanted = (DROP, RELATIVE_DROP) if better_is_more else (RISE, RELATIVE_RISE)
        if condition.form not in wanted or condition.comparator != AT_MOST:
            raise InputError(
                f"{said}: expected {' or '.join(f'{form}({metric}) <= LIMIT' for form in wanted)}"
            )
    elif not fraction and condition.comparator != comparator:
        raise InputError(f"{said}: expected {metric} {comparator} LIMIT")
    limit = condition.limit or 0.0
    if (fraction or metric in BESIDE or condition.form == RELATIVE_DROP) and limit > 1:
        raise InputError(
            f"{said}: expected a fraction from 0 to 1, or percent with its sign (45%), came "
            f"{limit:g}"
        )
