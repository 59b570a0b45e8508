"""Can a timing be trusted, and what would make it better? Symptoms, likely causes, remedies.

In the way of pyperf's checks: nothing is corrected or left out; what looks wrong is said, with what
to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_bench.core.spec import Report
from edge_bench.core.timings import Measurement, Soak
from edge_bench.statistics.stats import early_stopping_floor, median_interval
from edge_bench.telemetry.throttling import throttling
from edge_bench.timing.soak import drift

LEAST_SAMPLES = 15
DRIFT, SPREAD, TAIL = 0.05, 0.10, 1.5
"""Changes of the median over a timing; half the width of the middle half of the samples, over the
median; the 99th percentile over the median. Beyond these a timing is called unstable."""
BUSY = 0.1
"""Cores that others kept busy: enough to make a timing depend on what else ran."""
SLOW_GOVERNORS = ("powersave", "conservative")
FIXED_GOVERNORS = ("performance", "userspace")


@dataclass(frozen=True, kw_only=True)
class Stability:
    """A verdict on one timing.

    Attributes:
        symptoms: what is wrong with the samples; empty where they are stable.
        causes: what probably is behind it, each with its remedy.
    """

    symptoms: tuple[str, ...]
    causes: tuple[str, ...]

    @property
    def stable(self) -> bool:
        """Is nothing wrong?"""
        return not self.symptoms

    def __str__(self) -> str:
        if self.stable:
            return "stable"
        return "; ".join(("unstable: " + ", ".join(self.symptoms), *self.causes))


def stabilities(report: Report) -> dict[str, Stability]:
    """The verdict on each timing of a report that has enough samples for one."""
    timings = {"single-stream": report.latency, "offline": report.throughput}
    if report.multi_stream:
        timings["multi-stream"] = report.multi_stream
    found = {
        name: Stability(symptoms=symptoms, causes=_causes(report, timed, symptoms))
        for name, timed in timings.items()
        if len(timed.latency_ns) >= LEAST_SAMPLES
        for symptoms in [_symptoms(timed)]
    }
    if report.soak and abs(change := drift(report.soak).change) > DRIFT:
        symptoms = (f"latency changed by {change:+.0%} during the soak",)
        found["soak"] = Stability(
            symptoms=symptoms, causes=_causes(report, report.soak, symptoms, warm=True)
        )
    return found


def _symptoms(timed: Measurement) -> tuple[str, ...]:
    samples = np.asarray(timed.latency_ns, dtype=np.float64)
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    if middle == 0:
        return ("the clock stood still in half of the calls",)
    found = []
    if timed.settled is False:
        found.append(f"latency had not settled after {timed.warmup_runs} calls of warm-up")
    thirds = np.array_split(samples, 3)
    before, after = (median_interval(part.tolist()) for part in (thirds[0], thirds[-1]))
    change = float(np.median(thirds[-1]) / max(np.median(thirds[0]), 1) - 1)
    apart = before[1] < after[0] or after[1] < before[0]
    if abs(change) > DRIFT and apart:
        found.append(f"it changed by {change:+.0%} while it was timed")
    if high - low > 2 * SPREAD * middle:
        found.append(f"half of the calls lie {(high - low) / middle:.0%} of the median apart")
    if len(samples) >= early_stopping_floor(0.99):
        tail = float(np.quantile(samples, 0.99, method="higher")) / middle
        if tail > TAIL:
            found.append(f"p99 is {tail:.1f} times the median")
    return tuple(found)


def _causes(
    report: Report,
    timed: Measurement | Soak,
    symptoms: tuple[str, ...],
    warm: bool = False,
) -> tuple[str, ...]:
    """What could be behind the symptoms."""
    if not symptoms:
        return ()
    causes = []
    evidence = throttling(report.telemetry)
    if evidence and evidence.while_timed:
        causes.append(
            f"the board throttled ({', '.join(evidence.while_timed)}): give it cooling and a "
            "supply that it is specified for"
        )
    if timed.background_cores is not None and timed.background_cores > BUSY:
        causes.append(
            f"other processes kept {timed.background_cores:.1f} cores busy: stop them, or keep to "
            "cores of its own with taskset"
        )
    governor = report.device.governor
    if governor is not None and governor not in FIXED_GOVERNORS:
        remedy = (
            "sudo jetson_clocks"
            if report.device.device == "jetson"
            else "sudo cpupower frequency-set -g performance"
        )
        slow = ", which holds the clock low" if governor in SLOW_GOVERNORS else ""
        causes.append(f"the cores' governor is {governor}{slow}: {remedy}")
    threads, cores = report.backend.threads, report.device.cores
    if threads and cores and threads > cores:
        causes.append(f"{threads} threads share {cores} cores: give --threads {cores} or fewer")
    if warm and not causes:
        causes.append("a warm device is slower: cool it, or state the figure of the last tenth")
    if not causes:
        causes.append("no cause was found: time it for longer (--seconds), or look with --soak")
    return tuple(causes)
