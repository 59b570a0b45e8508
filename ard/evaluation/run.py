"""A whole evaluation of one model: its attacks, the doubts about them, and how it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ard.attacks.differential import pair_of
from ard.attacks.registry import attack_label, expand, named_parts
from ard.attacks.victims import REMAINING, Victim
from ard.crafting.craft import keep_set, versions_of
from ard.data.splits import Split
from ard.evaluation.accuracy import BATCH_SIZE, evaluate_all, told_apart_mask
from ard.evaluation.doubts import Doubt, doubts_about
from ard.evaluation.ledger import Ledger
from ard.evaluation.record import EvaluationRecord
from ard.models.parents import parent_of
from ard.processes.world import ALONE, World
from edge_bench.core.errors import InputError
from edge_bench.core.progress import Monitor, silent
from edge_bench.core.series import encode_array
from edge_bench.core.spec import AttackSpec
from edge_bench.files.sets import is_set
from edge_bench.statistics.class_figures import by_class, class_figures, named, worst
from edge_bench.statistics.metrics import BoolArray, accuracy, decode_mask, encode_mask
from edge_bench.statistics.stats import wilson_interval


@dataclass(frozen=True, kw_only=True)
class Result:
    """Masks by attack (see `evaluate_all`) and what makes them doubtful.

    `apart` has the samples that a differential attack told apart, by attack and direction.
    """

    masks: dict[str, BoolArray]
    doubts: list[Doubt]
    apart: dict[str, BoolArray] = field(default_factory=dict)

    def encoded_masks(self) -> dict[str, str]:
        """Masks as reports store them."""
        return {name: encode_mask(mask) for name, mask in self.masks.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is asked: whose accuracy, on which images, under which attacks.

    Attributes:
        specs: attacks on the victim, whose worst case is asked for.
        differential: attacks that are to tell it and its parent apart, beside the worst case.
        each: every attack on every image (see `evaluate_all`).
        parent: weights that a deployed victim was exported from.
        sets: folder in which what each attack found is kept as a set; None keeps none.
    """

    victim: Victim
    split: Split
    dataset: str
    specs: list[AttackSpec]
    differential: list[AttackSpec] = field(default_factory=list)
    each: bool = False
    parent: Path | None = None
    torch_device: str = "cpu"
    seed: int = 0
    sets: Path | None = None

    def __post_init__(self) -> None:
        if self.differential:
            pair_of(self.victim)
        if self.victim.has_gradients:
            return
        for part in (part for spec in self.specs for part in expand(spec)):
            if part.name != "square":
                raise InputError(
                    f"--attacks {part.name}: needs gradients, but {self.victim.why_blind}; "
                    f"{REMAINING}"
                )

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) classes of the images."""
        found: NDArray[np.int64] = self.split.labels.cpu().numpy()
        return found

    @property
    def names(self) -> dict[int, str]:
        """Of the classes, by number."""
        return named(self.victim.card.class_names)

    def run(
        self,
        ledger: Ledger | None = None,
        *,
        doubting: bool = True,
        world: World = ALONE,
        monitor: Monitor = silent,
    ) -> Result:
        """Attack, going on from what `ledger` holds, and then doubt.

        Args:
            ledger: of rank 0, where several processes share the work; the others have none.
        """
        known = self._known(ledger, world)
        masks = evaluate_all(
            self.victim.module,
            self.split,
            self.specs,
            each=self.each,
            torch_device=self.torch_device,
            known=known,
            finished=ledger.add if ledger else None,
            keep=self._keep if self.sets else None,
            world=world,
            monitor=monitor,
        )
        # Never through `evaluate_all`, whose worst case is over attacks on the victim alone.
        apart = self._apart(ledger, known, world, monitor)
        if not doubting:
            return Result(masks=masks, doubts=[], apart=apart)
        # They look at one batch or less, which cannot be shared.
        told = world.from_first(lambda: [asdict(doubt) for doubt in self._doubts(masks, monitor)])
        return Result(masks=masks, doubts=[Doubt(**doubt) for doubt in told], apart=apart)

    def _doubts(self, masks: dict[str, BoolArray], monitor: Monitor) -> list[Doubt]:
        return doubts_about(
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

    def _apart(
        self, ledger: Ledger | None, known: dict[str, BoolArray], world: World, monitor: Monitor
    ) -> dict[str, BoolArray]:
        found: dict[str, BoolArray] = {}
        for spec in self.differential:
            name = apart_label(spec)
            if name in known:
                found[name] = known[name]
                continue
            with monitor(name) as report_progress:
                found[name] = told_apart_mask(
                    pair_of(self.victim),
                    self.split,
                    spec,
                    torch_device=self.torch_device,
                    world=world,
                    report_progress=report_progress,
                )
            if ledger is not None:
                ledger.add(name, found[name])
        return found

    def _known(self, ledger: Ledger | None, world: World) -> dict[str, BoolArray]:
        """What rank 0's ledger holds, for all; of attacks whose set is gone, nothing."""

        def held() -> dict[str, str]:
            masks = ledger.masks if ledger else {}
            lost = {label for label, path in self._sets().items() if not is_set(path)}
            return {name: encode_mask(mask) for name, mask in masks.items() if name not in lost}

        return {name: decode_mask(mask) for name, mask in world.from_first(held).items()}

    def _sets(self) -> dict[str, Path]:
        """The folder of the set of each attack, by its label."""
        if self.sets is None:
            return {}
        labels = [label for spec in self.specs for label in named_parts(spec)]
        return {label: self.sets / label.replace(": ", "-") for label in labels}

    def other_sets(self) -> list[str]:
        """Names of the sets in the folder that are of no attack of this evaluation."""
        ours = set(self._sets().values())
        found = sorted(self.sets.iterdir()) if self.sets and self.sets.is_dir() else []
        return [path.name for path in found if path not in ours and is_set(path)]

    def _keep(self, label: str, spec: AttackSpec, found: Tensor) -> None:
        assert self.sets is not None
        keep_set(
            self.victim,
            self.split,
            found,
            spec,
            self._sets()[label],
            dataset=self.dataset,
            force=True,
            torch_device=self.torch_device,
        )

    def asked(self) -> dict[str, Any]:
        """Everything that the masks follow from, as plain JSON values."""
        asked = [*self.specs, *self.differential]
        return {
            "model": str(self.victim.path),
            "sha256": self.victim.sha256,
            "surrogate_sha256": self.victim.surrogate_sha256,
            "runtime": self.victim.runtime,
            "threat": self.victim.threat,
            "dataset": self.dataset,
            "images_sha256": self.split.sha256,
            "samples": len(self.split),
            "epsilon": asked[0].epsilon if asked else None,
            "norm": asked[0].norm if asked else None,
            "attacks": [asdict(spec) for spec in (*self.specs, *self.differential)],
            "each": self.each,
            "sets": None if self.sets is None else str(self.sets),
            "batch_size": BATCH_SIZE,
            "versions": versions_of([*self.specs, *self.differential]),
        }


def apart_label(spec: AttackSpec) -> str:
    """How a differential attack is called among masks."""
    return f"{attack_label(spec)}, {spec.direction} errs"


def as_json(evaluation: Evaluation, result: Result) -> dict[str, Any]:
    """The evaluation in plain values; accuracies are fractions."""
    masks = result.encoded_masks()
    worst_of = [name for name in masks if name != "worst case" and ": " not in name]
    return evaluation.asked() | {
        "accuracy": {name: accuracy(mask) for name, mask in masks.items()},
        "worst_case_of": worst_of,
        "class_names": evaluation.victim.card.class_names,
        **class_figures(masks, evaluation.labels, evaluation.names),
        "doubts": [asdict(doubt) for doubt in result.doubts],
        "divergence": {name: float(mask.mean()) for name, mask in result.apart.items()},
    }


def record_of(evaluation: Evaluation, result: Result) -> EvaluationRecord:
    """The evaluation as its file holds it."""
    values = as_json(evaluation, result)
    del values["divergence"]
    values |= {
        "attacks": (*evaluation.specs, *evaluation.differential),
        "apart": {name: encode_mask(mask) for name, mask in result.apart.items()},
        "worst_case_of": tuple(values["worst_case_of"]),
        "doubts": tuple(result.doubts),
        "masks": result.encoded_masks(),
        "labels": encode_array(evaluation.labels),
    }
    # They follow from masks and labels.
    del values["class_accuracy"], values["worst_class"]
    return EvaluationRecord(**values)


def rows(evaluation: Evaluation, result: Result) -> list[list[str]]:
    """One row per accuracy: attack, percent, its 95% Wilson interval, samples.

    After them the class that fares worst on clean images, and the one that does under all attacks;
    then divergence.
    """
    masks = result.encoded_masks()
    found = [_row(name, mask) for name, mask in masks.items()]
    for name in ("clean", "worst case"):
        if name in masks:
            lowest = worst(by_class(masks[name], evaluation.labels, evaluation.names))
            found.append(_row(f"{name}, worst class: {lowest.name}", lowest.mask))
    for name, apart in result.apart.items():
        found.append(_row(f"told apart by {name}", encode_mask(apart)))
    return found


def _row(name: str, mask: str) -> list[str]:
    low, high = wilson_interval(mask.count("1"), len(mask))
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    return [name, f"{100 * accuracy(mask):.1f} %", interval, str(len(mask))]
