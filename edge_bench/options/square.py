"""What to ask of an attack on the spot, which needs no gradients: Square or RayS."""

from __future__ import annotations

from dataclasses import dataclass

from edge_bench.core.errors import InputError

ON_THE_SPOT = {"square": "black-box", "rays": "hard-label"}
"""The attacks that a device can make, and what each sees: scores, or the class alone."""

MOST = 2**31 - 1
"""Of seeds and queries, as of every other seed; no report is read whose numbers exceed 64 bits."""


@dataclass(frozen=True, kw_only=True)
class SquareOptions:
    """What to ask of Square, or of RayS.

    Attributes:
        attack: key of ON_THE_SPOT.
        queries: images a sample, the first one included.
        epsilon: L-inf budget; None takes that of the replayed sets.
        seed: seed of every draw.
        attack_all: attack every sample that is right on its clean image, so that the mask is
            Square's own. By default only samples that also stood every replayed set are attacked:
            the worst case is the same, and the queries are fewer.
    """

    attack: str = "square"
    queries: int = 5000
    epsilon: float | None = None
    seed: int = 0
    attack_all: bool = False

    def __post_init__(self) -> None:
        if self.attack not in ON_THE_SPOT:
            raise InputError(
                f"--attack {self.attack}: expected {' or '.join(ON_THE_SPOT)}, which need no "
                "gradients; other attacks are crafted by ardx attack and replayed with --sets"
            )
        for option, value, least in (("--queries", self.queries, 1), ("--seed", self.seed, 0)):
            if not least <= value <= MOST:
                raise InputError(f"{option} {value}: expected {least} or more, and at most {MOST}")

    @property
    def name(self) -> str:
        """The name of the result, such as `square5000`."""
        return f"{self.attack}{self.queries}"
