"""A whole evaluation of one model: its attacks, the doubts about them, and how it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ard.attacks.registry import expand
from ard.attacks.victims import REMAINING, Victim
from ard.crafting.craft import keep_set, versions_of
from ard.data.splits import Split
from ard.evaluation.accuracy import BATCH_SIZE, evaluate_all
from ard.evaluation.doubts import Doubt, doubts_about
from ard.evaluation.ledger import Ledger
from ard.evaluation.record import EvaluationRecord
from ard.models.parents import parent_of
from edge_bench.core.errors import InputError
from edge_bench.core.progress import Monitor, silent
from edge_bench.core.spec import AttackSpec
from edge_bench.statistics.metrics import BoolArray, accuracy, encode_mask
from edge_bench.statistics.stats import wilson_interval


@dataclass(frozen=True, kw_only=True)
class Result:
    """Masks by attack (see `evaluate_all`) and what makes them doubtful."""

    masks: dict[str, BoolArray]
    doubts: list[Doubt]

    def encoded_masks(self) -> dict[str, str]:
        """Masks as reports store them."""
        return {name: encode_mask(mask) for name, mask in self.masks.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is asked: whose accuracy, on which images, under which attacks.

    Attributes:
        each: every attack on every image (see `evaluate_all`).
        parent: weights that a deployed victim was exported from.
        sets: folder in which what each attack found is kept as a set; None keeps none.
    """

    victim: Victim
    split: Split
    dataset: str
    specs: list[AttackSpec]
    each: bool = False
    parent: Path | None = None
    torch_device: str = "cpu"
    seed: int = 0
    sets: Path | None = None

    def __post_init__(self) -> None:
        if self.victim.has_gradients:
            return
        for part in (part for spec in self.specs for part in expand(spec)):
            if part.name != "square":
                raise InputError(
                    f"--attacks {part.name}: needs gradients, but {self.victim.why_blind}; "
                    f"{REMAINING}"
                )

    def run(
        self, ledger: Ledger | None = None, *, doubting: bool = True, monitor: Monitor = silent
    ) -> Result:
        """Attack, going on from what `ledger` holds, and then doubt."""
        masks = evaluate_all(
            self.victim.module,
            self.split,
            self.specs,
            each=self.each,
            torch_device=self.torch_device,
            known=ledger.masks if ledger else None,
            finished=ledger.add if ledger else None,
            keep=self._keep if self.sets else None,
            monitor=monitor,
        )
        if not doubting:
            return Result(masks=masks, doubts=[])
        doubts = doubts_about(
            self.victim.module,
            self.split,
            self.specs,
            masks,
            has_gradients=self.victim.has_gradients,
            parent=None
            if self.parent is None
            else parent_of(self.parent, self.victim.card).module.to(self.torch_device),
            torch_device=self.torch_device,
            seed=self.seed,
            monitor=monitor,
        )
        return Result(masks=masks, doubts=doubts)

    def _keep(self, label: str, spec: AttackSpec, found: Tensor) -> None:
        assert self.sets is not None
        keep_set(
            self.victim,
            self.split,
            found,
            spec,
            self.sets / label.replace(": ", "-"),
            dataset=self.dataset,
            force=True,
            torch_device=self.torch_device,
        )

    def asked(self) -> dict[str, Any]:
        """Everything that the masks follow from, as plain JSON values."""
        return {
            "model": str(self.victim.path),
            "sha256": self.victim.sha256,
            "surrogate_sha256": self.victim.surrogate_sha256,
            "runtime": self.victim.runtime,
            "threat": self.victim.threat,
            "dataset": self.dataset,
            "images_sha256": self.split.sha256,
            "samples": len(self.split),
            "epsilon": self.specs[0].epsilon if self.specs else None,
            "norm": self.specs[0].norm if self.specs else None,
            "attacks": [asdict(spec) for spec in self.specs],
            "each": self.each,
            "sets": None if self.sets is None else str(self.sets),
            "batch_size": BATCH_SIZE,
            "versions": versions_of(self.specs),
        }


def as_json(evaluation: Evaluation, result: Result) -> dict[str, Any]:
    """The evaluation in plain values; accuracies are fractions."""
    masks = result.encoded_masks()
    worst_of = [name for name in masks if name != "worst case" and ": " not in name]
    return evaluation.asked() | {
        "accuracy": {name: accuracy(mask) for name, mask in masks.items()},
        "worst_case_of": worst_of,
        "class_names": evaluation.victim.card.class_names,
        "doubts": [asdict(doubt) for doubt in result.doubts],
    }


def record_of(evaluation: Evaluation, result: Result) -> EvaluationRecord:
    """The evaluation as its file holds it."""
    values = as_json(evaluation, result)
    values |= {
        "attacks": tuple(evaluation.specs),
        "worst_case_of": tuple(values["worst_case_of"]),
        "doubts": tuple(result.doubts),
        "masks": result.encoded_masks(),
    }
    return EvaluationRecord(**values)


def rows(result: Result) -> list[list[str]]:
    """One row per accuracy: attack, percent, its 95% Wilson interval, samples."""
    found = []
    for name, mask in result.encoded_masks().items():
        low, high = wilson_interval(mask.count("1"), len(mask))
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        found.append([name, f"{100 * accuracy(mask):.1f} %", interval, str(len(mask))])
    return found
