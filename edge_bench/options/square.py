"""What to ask of Square."""

from __future__ import annotations

from dataclasses import dataclass

from edge_bench.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SquareOptions:
    """What to ask of Square.

    Attributes:
        queries: images a sample, the first one included.
        epsilon: L-inf budget; None takes that of the replayed sets.
        seed: seed of every draw.
        attack_all: attack every sample that is right on its clean image, so that the mask is
            Square's own. By default only samples that also stood every replayed set are attacked:
            the worst case is the same, and the queries are fewer.
    """

    queries: int = 5000
    epsilon: float | None = None
    seed: int = 0
    attack_all: bool = False

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise InputError(f"--queries {self.queries}: expected 1 or more")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: expected 0 or more")

    @property
    def name(self) -> str:
        """The name of the result, such as `square5000`."""
        return f"square{self.queries}"
