"""How much robust accuracy a lower precision may cost: the budget, and what is measured for it.

The search itself is in `search`. Samples are images of the training set that no training saw.
Those that decide which layers stay in float are never those that are reported: a choice among
many is partly a choice of luck on the images it was made with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.lowering.layers import Layer
from edge_bench.core.errors import EXIT_GATE_FAILED, ArdxError
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import paired_difference_interval

# Rows of what is reported.
FP32, PLAIN, CHOSEN = "fp32", "no layer in float", "within budget"


class Maker(Protocol):
    """Makes artefacts of one network in a lower precision, with any layers left in float."""

    layers: list[Layer]

    def make(self, path: Path, in_float: Collection[Layer] = ()) -> None:
        """Write the ONNX file `path`, with the layers `in_float` in float32."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What an artefact gets right, (N,) booleans.

    Attributes:
        clean: on the clean images.
        robust: on the clean images and under every attack.
    """

    clean: BoolArray
    robust: BoolArray


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images to decide on, or to report on.

    Attributes:
        adversarial: (N, C, H, W) uint8, made on the parent.
        labels: (N,).
        judge: attacks an artefact, and says what is left of it.
    """

    adversarial: NDArray[np.uint8]
    labels: NDArray[np.int64]
    judge: Callable[[Path], Judged]


@dataclass(frozen=True, kw_only=True)
class AllowedDrop:
    """What a lower precision may cost.

    Attributes:
        max_drop: of worst-case robust accuracy, below that of the fp32 artefact attacked alike.
        max_float_layers: most layers to keep in float; None: all but one.
    """

    max_drop: float
    max_float_layers: int | None
    deciding: Part
    reporting: Part


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Loss of accuracy on the same samples.

    Attributes:
        lost: samples that only fp32 gets right.
        gained: samples that only the lower precision gets right.
        samples: N.
    """

    lost: int
    gained: int
    samples: int

    @classmethod
    def between(cls, before: BoolArray, after: BoolArray) -> Drop:
        """The loss from (N,) booleans to others."""
        lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
        return cls(lost=lost, gained=gained, samples=len(before))

    @property
    def value(self) -> float:
        """As a fraction of N, above 0 for a loss."""
        return (self.lost - self.gained) / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval."""
        return paired_difference_interval(self.gained, self.lost, self.samples)

    def as_json(self) -> dict[str, Any]:
        """In plain values."""
        return {"drop": self.value, "interval": list(self.interval), "samples": self.samples}

    def __str__(self) -> str:
        low, high = self.interval
        # + 0.0: a loss of none is not written as -0.0.
        return f"{100 * self.value + 0.0:.1f} ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True, kw_only=True)
class Strain:
    """What a layer does to the network when it alone has the lower precision.

    Attributes:
        margin_shift: mean change, up or down, of the label's margin over the best other logit on
            the parent's adversarial images.
        drop: of accuracy on these images; a replay, which only tells layers that break much.
    """

    layer: Layer
    margin_shift: float
    drop: Drop


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An artefact that was made and judged on the half that decides.

    Attributes:
        in_float: layers kept in float, the most sensitive first.
        drop: of robust accuracy from fp32's.
        size_bytes: of the file.
        latency_ms: median of one image on this machine, one thread, in ONNX Runtime.
    """

    path: Path
    in_float: tuple[Layer, ...]
    judged: Judged
    drop: Drop
    size_bytes: int
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that the search for the fewest layers measured.

    Attributes:
        fp32: the reference.
        trials: by number of layers in float; the first has none.
        strains: of every layer, the largest first; empty where no layer had to be kept.
        layers: number of layers that there are.
        chosen: index into `trials`; None where the budget cannot be met.
        reported: FP32, PLAIN and CHOSEN on the half that did not decide; empty without a choice.
    """

    max_drop: float
    fp32: Trial
    trials: tuple[Trial, ...]
    strains: tuple[Strain, ...]
    layers: int
    chosen: int | None
    reported: dict[str, Judged]

    @property
    def in_float(self) -> tuple[Layer, ...]:
        """The layers that the chosen artefact keeps in float."""
        assert self.chosen is not None
        return self.trials[self.chosen].in_float

    def reported_drop(self, name: str) -> Drop:
        """Drop from fp32 of a row of `reported`."""
        return Drop.between(self.reported[FP32].robust, self.reported[name].robust)

    def recipe(self) -> dict[str, Any]:
        """What the card of the chosen artefact says."""
        assert self.chosen is not None
        return {
            "max_robust_drop": self.max_drop,
            "float_layers": [layer.name for layer in self.in_float],
            "robust_drop_decided": self.trials[self.chosen].drop.as_json(),
            "robust_drop": self.reported_drop(CHOSEN).as_json(),
        }


class DropError(ArdxError):
    """No artefact within the budget was found (exit 1), and what was tried."""

    exit_code = EXIT_GATE_FAILED

    def __init__(self, sentence: str, outcome: Outcome) -> None:
        super().__init__(sentence)
        self.outcome = outcome
