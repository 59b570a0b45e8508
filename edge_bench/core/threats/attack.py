"""What one attack was: its budget, its direction or severity, and the draws behind it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, nan

from edge_bench.core.errors import InputError

NORMS = ("linf", "l2")
TARGETS = ("least_likely", "random")
DIRECTIONS = ("artefact", "parent")
"""Of a differential attack: which of the two is to err where the other is right."""
SEVERITIES = range(1, 6)


def parse_epsilon(text: str, option: str = "--epsilon", norm: str = "linf") -> float:
    """Read a budget on images in [0, 1], written as `8/255` or `0.03`.

    Raises:
        InputError: not a number, not positive, or for L-inf 1 and more (8 where 8/255 was meant).
    """
    numerator, _, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        value = nan
    if not isfinite(value) or text.endswith("/"):
        raise InputError(
            f"{option} {text}: expected a fraction such as 8/255 or a decimal such as 0.03"
        )
    if value <= 0:
        raise InputError(
            f"{option} {text}: expected a budget above 0 for images in [0, 1], such as 8/255"
        )
    if norm == "linf" and value >= 1:
        meant = f"{value:g}/255" if value < 255 and value.is_integer() else "8/255"
        raise InputError(
            f"{option} {text}: expected a budget below 1, since images lie in [0, 1]; "
            f"write {meant} if you meant steps of the 8-bit grid"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class AttackSpec:
    """One attack, completely: what was run with which budget.

    Attributes:
        name: key of the attack (`fgsm`, `pgd`, `cw`, `square`).
        norm: norm of the budget; `linf` or `l2`.
        epsilon: budget on images in [0, 1].
        step_size: length of a step on images in [0, 1]; None where the attack chooses it.
        steps: gradient steps; None where the attack chooses them.
        restarts: independent random starts.
        seed: seed of every random draw.
        target: the class that the attack aims at: a number, `least_likely` (of the clean image),
            `random` (any but the label); None aims at any error.
        direction: of a differential attack, which is to err while the other is right; a key of
            DIRECTIONS.
        severity: of a corruption, 1 to 5 (Hendrycks and Dietterich 2019). It has no budget: its
            epsilon is 1 in L-infinity, which any image in [0, 1] is within.
    """

    name: str
    norm: str = "linf"
    epsilon: float
    step_size: float | None
    steps: int | None
    restarts: int = 1
    seed: int = 0
    target: str | None = None
    direction: str | None = None
    severity: int | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InputError(f"attack norm {self.norm!r}: expected one of {', '.join(NORMS)}")
        most = 1 if self.norm == "linf" else inf
        if self.direction not in (None, *DIRECTIONS):
            raise InputError(
                f"attack direction {self.direction!r}: expected {' or '.join(DIRECTIONS)}"
            )
        if self.severity is not None:
            self._check_corruption(self.severity)
        elif not 0 < self.epsilon < most:
            raise InputError(
                f"attack epsilon {self.epsilon}: expected a value above 0"
                f"{' and below 1' if self.norm == 'linf' else ''}"
            )
        if self.step_size is not None and not self.step_size > 0:
            raise InputError(f"attack step size {self.step_size}: expected a value above 0")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"attack steps {self.steps}: expected 1 or more")
        if self.restarts < 1:
            raise InputError(f"attack restarts {self.restarts}: expected 1 or more")
        if self.target is not None and not (self.target in TARGETS or self.target.isdecimal()):
            raise InputError(
                f"attack target {self.target!r}: expected a class number or {' or '.join(TARGETS)}"
            )

    @property
    def ball(self) -> str:
        """Norm and radius, for people: `L-inf 8/255`, `L2 0.5`."""
        if self.norm == "linf":
            return f"L-inf {self.epsilon * 255:.3g}/255"
        return f"{self.norm.upper()} {self.epsilon:.3g}"

    def _check_corruption(self, severity: int) -> None:
        if severity not in SEVERITIES:
            raise InputError(f"attack severity {severity}: expected 1 to {SEVERITIES[-1]}")
        if (self.norm, self.epsilon) != ("linf", 1):
            raise InputError(
                f"attack epsilon {self.epsilon}: expected 1 in linf of a corruption, which has a "
                "severity and no budget"
            )
