"""What a report keeps of pictures that were walked from their files to logits."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_bench.core.classes import ClassNames
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.answers import Answers
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.series import series_array
from edge_bench.core.threats.attack import AttackSpec

CARD = "pillow"
"""The pipeline that does what the card says, as training did."""


@dataclass(frozen=True, kw_only=True)
class Walked:
    """N pictures, one after the other, each from its file to logits as a product does it.

    Attributes:
        folder: that they lay in, for people.
        files_sha256: of all files in their order, by which two reports of the same are known.
        pipeline: key of `pictures.PIPELINES`, or `MODULE:FUNCTION` of the user's.
        source_sha256: of the user's function; else None.
        preprocessing: what the card says; None where it says nothing, and pictures of the model's
            size are taken as they are.
        class_names: in the order of the labels.
        labels: series of N classes.
        answers: on the product's way.
        card_answers: on the card's; None where it leads nowhere, since the card says nothing and
            the pictures have another size.
        stages: series of N times in ns by the name of the stage, in their order; all files had
            been read once before, so that reading is from the system's cache.
        versions: of the libraries that decode.
        attack: that made the pictures (`attack --pictures`); None of any others.
        attacked_sha256: the model that it was made on.
    """

    folder: str
    files_sha256: str
    pipeline: str
    source_sha256: str | None = None
    preprocessing: Preprocessing | None = None
    class_names: ClassNames
    labels: str
    answers: Answers
    card_answers: Answers | None
    stages: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    attack: AttackSpec | None = None
    attacked_sha256: str | None = None

    def __post_init__(self) -> None:
        labels = series_array(self.labels)
        if not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise InputError(
                f"pictures: expected labels of {len(self.class_names)} classes, came "
                f"{labels.min()} to {labels.max()}"
            )
        times = [series_array(text) for text in self.stages.values()]
        if not times or min(series.min() for series in times) < 0:
            raise InputError("pictures: expected times of one or more stages, of 0 ns or more")
        lengths = {len(labels), len(self.answers), *map(len, times)}
        lengths |= {len(self.card_answers)} if self.card_answers else set()
        if len(lengths) > 1:
            raise InputError(
                "pictures: expected a label, an answer and a time of each stage for each, came "
                f"{', '.join(map(str, sorted(lengths)))}"
            )
