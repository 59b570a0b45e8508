"""An evaluation as a file: what was asked, what was found, and the masks that it follows from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ard.evaluation.doubts import Doubt
from edge_bench.core.classes import ClassNames
from edge_bench.core.formats import Change, Format
from edge_bench.core.spec import AttackSpec


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """What `ardx evaluate --out` writes.

    Attributes:
        model: path of the victim, as it was given.
        sha256: of that file.
        surrogate_sha256: file whose gradients stood in for the victim's; None without one.
        runtime: what ran the victim: `torch`, or a backend.
        threat: that of `SetManifest.threat`.
        dataset: name of the dataset that the images come from.
        images_sha256: identifies the clean images and labels.
        samples: number of images N.
        epsilon, norm: budget of the attacks; None without one.
        attacks: what was run.
        each: every attack on every image, rather than on what the earlier ones left.
        sets: folder that the attacked images were kept in; None where they were not.
        batch_size: images a batch; random draws follow it.
        versions: of ardx and of the libraries that the outcome depends on.
        accuracy: by attack, fractions of N.
        worst_case_of: the masks whose AND over samples is the worst case.
        doubts: signs of false robustness.
        masks: by attack, a '1' for each sample that stayed correctly classified.
        class_names: names of the classes; None where nobody told them.
        labels: a series (see `series`) of the class of each image; None in files of before.
        apart: by differential attack and direction, a '1' for each sample on which it told the
            victim and its parent apart; no part of the worst case.
    """

    FORMAT: ClassVar = Format(
        name="an evaluation",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(ardx="0.2.0", what="class_names: the names of the classes"),
            Change(ardx="0.2.0", what="labels: the class of each image"),
            Change(ardx="0.2.0", what="apart; direction and severity of an attack"),
            Change(ardx="0.2.0", what="content_sha256: of all the rest"),
        ),
        sealed_from=5,
        anew="run ardx evaluate again",
    )

    schema_version: int = FORMAT.version
    model: str
    sha256: str
    surrogate_sha256: str | None
    runtime: str
    threat: str
    dataset: str
    images_sha256: str
    samples: int
    epsilon: float | None
    norm: str | None
    attacks: tuple[AttackSpec, ...]
    each: bool
    sets: str | None
    batch_size: int
    versions: dict[str, str]
    accuracy: dict[str, float]
    worst_case_of: tuple[str, ...]
    doubts: tuple[Doubt, ...]
    masks: dict[str, str]
    class_names: ClassNames | None = None
    labels: str | None = None
    apart: dict[str, str] = field(default_factory=dict)
