"""Settings of the objectives."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import inf

from ard.methods.ranking import RankingOptions
from ard.methods.registry import ANCHORS
from edge_bench.core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Settings of the objectives; each method reads its own. None is the published value.

    Attributes:
        alpha: weight of the distillation term: goldblum_ard (1), igdm's module (1; for CIFAR-100
            its authors take 20), dist_adv's cross-entropy (1); share of the term on adversarial
            images: adaad (1), rslad (5/6).
        beta: weight of the robust term of trades (6) and mart (5); exponent of iad (0.1); weight
            of dist_adv's relations within a sample (2).
        gamma: weight of dist_adv's relations between samples (2).
        temperature: of the softmax in goldblum_ard (30), dist_adv (4), iad (1), and of the
            anchor of ard (1).
        anchor: of ARD: what fixes the scale that a ranking is blind to: the objective `rslad`,
            `adaad` or `igdm`, or `ce`, cross-entropy on adversarial images.
        ranking: the ranking terms of ARD, and the inner objective `ranking`.
    """

    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    temperature: float | None = None
    anchor: str = "rslad"
    ranking: RankingOptions = field(default_factory=RankingOptions)

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise InputError(f"--anchor {self.anchor}: expected one of {', '.join(ANCHORS)}")
        weights = (("loss.alpha", self.alpha), ("--beta", self.beta), ("loss.gamma", self.gamma))
        for option, weight in weights:
            if weight is not None and not 0 <= weight < inf:
                raise InputError(f"{option} {weight:g}: expected a weight of 0 or more")
        if self.temperature is not None and not 0 < self.temperature < inf:
            raise InputError(f"loss.temperature {self.temperature:g}: expected a value above 0")

    @property
    def progress(self) -> float:
        """Share of the training that is done: all of it, unless `at` says otherwise."""
        return 1.0

    def at(self, progress: float) -> LossOptions:
        """The options in force when this share (0 to 1) of the training is done."""
        given = {each.name: getattr(self, each.name) for each in fields(LossOptions)}
        return _OptionsAt(**given | {"ranking": self.ranking.at(progress), "progress": progress})


@dataclass(frozen=True, kw_only=True)
class _OptionsAt(LossOptions):
    """Options at one moment of a training. The moment is no setting, so no field of the above."""

    progress: float = 1.0
