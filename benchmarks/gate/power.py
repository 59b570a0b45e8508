"""How often a gate fails what did not change, and what fell: ours beside a plain comparison.

    python -m benchmarks.gate.power

Pairs of models are simulated by what a gate sees of them: how many of n images only the old one
gets right (lost), and only the new one (won). `churn` is the fraction of images on which two models
of equal accuracy differ, as after a new calibration or another seed. Ours is the gate's own
decision on `drop(worst_case) <= MARGIN` at confidence 0.95; the plain comparison fails whenever the
accuracy that was observed fell by more than the margin.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np

from edge_bench.policy.change import judge_interval
from edge_bench.statistics.stats import paired_difference_interval

RUNS = 20_000
SAMPLES = (500, 1000, 10_000)
DROPS = (0.0, 0.005, 0.01, 0.02, 0.03)
CHURNS = (0.02, 0.06)
MARGINS = (0.0, 0.01)
CONFIDENCE = 0.95


def draws(
    samples: int, drop: float, churn: float, seed: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """(RUNS, 2) counts of lost and won; the drop comes on top of the churn."""
    rates = [churn / 2 + drop, churn / 2, 1 - churn - drop]
    return np.random.default_rng(seed).multinomial(samples, rates, size=RUNS)[:, :2]


@cache
def ours(lost: int, won: int, samples: int, margin: float) -> str:
    """The gate's own decision."""
    low, high = paired_difference_interval(lost, won, samples, 2 * CONFIDENCE - 1)
    return judge_interval(-high, -low, margin)


def cell(samples: int, drop: float, churn: float, margin: float) -> str:
    """A cell of the table: percent of failed, of undecided, and of failed by plain comparison."""
    counts = draws(samples, drop, churn, seed=round(1e6 * (drop + churn)) + samples)
    told = Counter(ours(int(lost), int(won), samples, margin) for lost, won in counts)
    plain = float(np.mean((counts[:, 0] - counts[:, 1]) / samples > margin + 1e-9))
    failed, undecided = (100 * told[name] / RUNS for name in ("failed", "inconclusive"))
    return f"{failed:.1f} ({undecided:.1f}) / {100 * plain:.1f}"


def main() -> None:
    """Print the tables."""
    for margin in MARGINS:
        for churn in CHURNS:
            print(f"\nAllowed drop {100 * margin:g} points, churn {100 * churn:g} %:\n")
            print("| images | " + " | ".join(f"drop {100 * drop:g}" for drop in DROPS) + " |")
            print("|---:|" + "---:|" * len(DROPS))
            for samples in SAMPLES:
                cells = (cell(samples, drop, churn, margin) for drop in DROPS)
                print(f"| {samples:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
