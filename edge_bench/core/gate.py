"""The conditions that commands take as options, and what a report that misses one is told."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from edge_bench.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Conditions on a report; None or False means not asked.

    Fractions, milliseconds, bytes, millijoules an image.
    """

    min_clean_accuracy: float | None = None
    min_robust_accuracy: float | None = None
    max_latency_p95_ms: float | None = None
    max_size_bytes: int | None = None
    max_robust_drop: float | None = None
    max_divergence: float | None = None
    max_path_gap: float | None = None
    max_energy_mj: float | None = None
    no_throttling: bool = False

    def __post_init__(self) -> None:
        for name in (
            *("min_clean_accuracy", "min_robust_accuracy"),
            *("max_robust_drop", "max_divergence", "max_path_gap"),
        ):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                option = "--" + name.replace("_", "-")
                raise InputError(
                    f"{option} {value:g}: expected a fraction from 0 to 1 (0.45 for 45 percent)"
                )
        for name in ("max_latency_p95_ms", "max_size_bytes", "max_energy_mj"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise InputError(f"--{name.replace('_', '-')} {value:g}: expected a value above 0")


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One condition that a report does not meet, and the sentence that says so."""

    condition: str
    sentence: str
