"""Which backend is the fastest among those that keep the artefact's robust accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median, median_low
from typing import ClassVar

from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format
from edge_bench.core.spec import Report
from edge_bench.statistics.metrics import accuracy, decode_mask, worst_case_mask
from edge_bench.statistics.stats import mcnemar_p_value, median_interval, paired_difference_interval
from edge_bench.timing.measure import images_per_second

LEVEL = 0.05
HEADER = [
    "backend",
    "worst case",
    "points to the best (95%)",
    "lost, won",
    "p50",
    "of the fastest's (95%)",
    "images/s",
    "verdict",
]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What became of one backend.

    Attributes:
        backend: key of `backends.BACKENDS`.
        report: file of its report beside the comparison; None where it failed.
        error: why it failed.
        round_ns: its median latency in each round of the race, in nanoseconds.
    """

    backend: str
    report: str | None
    error: str | None = None
    round_ns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if min(self.round_ns, default=1) < 1:
            raise InputError(
                f"the race of {self.backend}: expected medians above 0 ns, came "
                f"{min(self.round_ns)} ns: the clock went back or stood still"
            )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All backends on one artefact; verdicts follow from the reports (`judge`).

    `absent` are backends that this environment lacks, with what they need.
    """

    FORMAT: ClassVar = Format(
        name="a comparison of backends", history=(Change(ardx="0.1.0", what="the first form"),)
    )

    schema_version: int = FORMAT.version
    created: str
    ardx_version: str
    artifact_sha256: str
    batch_size: int
    contenders: tuple[Contender, ...]
    absent: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One backend beside the most robust and the fastest.

    Attributes:
        worst_case: robust accuracy, a fraction; None where nothing was replayed.
        lost, won: samples that are right by the most robust backend alone, by this one alone.
        difference: this worst case minus the best, a fraction, with its 95% interval; None
            where nothing was replayed.
        p_value: exact McNemar of `lost` and `won`.
        is_candidate: it does not lose robust accuracy (at the 5% level).
        p50_ms: median over the rounds.
        slowdown: median over the rounds of its latency over the fastest candidate's, with the
            95% interval.
    """

    backend: str
    worst_case: float | None
    lost: int
    won: int
    difference: tuple[float, float, float] | None
    p_value: float
    is_candidate: bool
    p50_ms: float
    slowdown: tuple[float, float, float]
    images_per_second: float

    @property
    def is_told_apart(self) -> bool:
        """Is it slower, or faster, than the fastest candidate by more than noise?"""
        _, low, high = self.slowdown
        return low > 1 or high < 1


def judge(reports: Mapping[str, Report], rounds: Mapping[str, tuple[int, ...]]) -> list[Standing]:
    """The standings of backends, the fastest candidate first, the others by their latency.

    Raises:
        InputError: the reports are not of the same images and attacks.
    """
    seen = {
        (
            report.images_sha256,
            len(report.clean_mask or ""),
            tuple((s.name, s.manifest.attack) for s in report.sets),
        )
        for report in reports.values()
    }
    if len(seen) != 1:
        raise InputError(
            "the backends saw other images or attacks than each other; leave --sets as it is "
            "while bench runs"
        )
    masks = {name: worst_case_mask(report) for name, report in reports.items()}
    best = max(masks.values(), key=lambda mask: accuracy(mask) if mask else 0.0)
    robust = {name: _robustness(mask, best) for name, mask in masks.items()}
    candidates = [name for name in reports if robust[name][-1]]
    fastest = min(candidates, key=lambda name: median_low(rounds[name]))
    standings = [
        _standing(name, reports[name], masks[name], robust[name], rounds, fastest)
        for name in reports
    ]
    return sorted(standings, key=lambda s: (s.backend != fastest, not s.is_candidate, s.p50_ms))


def _robustness(mask: str | None, best: str | None) -> tuple[int, int, float, bool]:
    """Samples lost and won against the best mask, McNemar's p-value, and "does not lose"."""
    if mask is None or best is None:
        return 0, 0, 1.0, True
    ours, theirs = decode_mask(mask), decode_mask(best)
    lost, won = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    p_value = mcnemar_p_value(lost, won)
    return lost, won, p_value, p_value > LEVEL


def _standing(
    name: str,
    report: Report,
    mask: str | None,
    robustness: tuple[int, int, float, bool],
    rounds: Mapping[str, tuple[int, ...]],
    fastest: str,
) -> Standing:
    lost, won, p_value, is_candidate = robustness
    ratios = [ours / best for ours, best in zip(rounds[name], rounds[fastest], strict=True)]
    difference = None
    if mask is not None:
        interval = paired_difference_interval(lost, won, len(mask))
        difference = ((won - lost) / len(mask), *interval)
    return Standing(
        backend=name,
        worst_case=accuracy(mask) if mask else None,
        lost=lost,
        won=won,
        difference=difference,
        p_value=p_value,
        is_candidate=is_candidate,
        p50_ms=median_low(rounds[name]) / 1e6,
        slowdown=(median(ratios), *median_interval(ratios)),
        images_per_second=images_per_second(report.throughput),
    )


def verdict_of(standing: Standing, fastest: Standing) -> str:
    """A few words for the table."""
    if standing is fastest:
        return "fastest"
    if not standing.is_candidate:
        return f"loses robust accuracy (p = {standing.p_value:.2g})"
    return "slower" if standing.is_told_apart else "as fast, within noise"


def rows(standings: list[Standing]) -> list[list[str]]:
    """The table of `HEADER`."""
    return [
        [
            s.backend,
            "not measured" if s.worst_case is None else f"{100 * s.worst_case:.1f} %",
            "" if s.difference is None else _interval(s.difference, 100, 1),
            f"{s.lost}, {s.won}",
            f"{s.p50_ms:.3f} ms",
            _interval(s.slowdown, 1, 2),
            f"{s.images_per_second:.0f}",
            verdict_of(s, standings[0]),
        ]
        for s in standings
    ]


def conclusion(standings: list[Standing]) -> str:
    """The sentence that says which backend to take, and how sure that is."""
    first, *others = standings
    measured = first.difference is not None
    peers = [s.backend for s in others if s.is_candidate and not s.is_told_apart]
    where = "at equal worst-case robust accuracy" if measured else "(robust accuracy not measured)"
    if not others:
        return f"{first.backend} is the only backend that ran: {first.p50_ms:.3f} ms (p50)"
    if peers:
        names = " and ".join([first.backend, *peers])
        said = f"{names} are the fastest {where}, and within noise of each other"
    else:
        said = f"{first.backend} is the fastest {where}"
    said += f": {first.p50_ms:.3f} ms (p50)"
    for s in others:
        if s.is_candidate and s.is_told_apart:
            said += f"; {s.backend} takes {_interval(s.slowdown, 1, 2)} times as long"
    for s in others:
        if not s.is_candidate and s.difference is not None:
            said += (
                f"; {s.backend} is no candidate, {_interval(s.difference, 100, 1)} points of "
                f"robust accuracy from the best (exact McNemar p = {s.p_value:.2g})"
            )
    if first.difference is not None:
        least = 100 * min(s.difference[1] for s in standings if s.is_candidate and s.difference)
        said += f"; equal means that a loss above {-least:.2g} points is ruled out (95%)"
    return said


def _interval(value: tuple[float, float, float], unit: float, digits: int) -> str:
    # Adding 0 takes the sign off a rounded zero.
    at, low, high = (round(unit * v, digits) + 0.0 for v in value)
    return f"{at:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
