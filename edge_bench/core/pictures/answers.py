"""What was answered to many images, as a report keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edge_bench.core.errors import InputError
from edge_bench.core.series import series_array


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the artefact said of each image, as series (see `series`) of N numbers.

    Attributes:
        predicted: class of the largest logit.
        confidence: softmax of that logit, in units of 1/CONFIDENCE_STEPS.
    """

    CONFIDENCE_STEPS: ClassVar = 10_000

    predicted: str
    confidence: str

    def __post_init__(self) -> None:
        predicted, confidence = series_array(self.predicted), series_array(self.confidence)
        if predicted.min() < 0 or confidence.min() < 0:
            raise InputError("answers: expected classes and confidences of 0 or more")
        if len(predicted) != len(confidence) or confidence.max() > self.CONFIDENCE_STEPS:
            raise InputError(
                f"answers: expected a class and a confidence up to {self.CONFIDENCE_STEPS} for "
                f"each image, came {len(predicted)} classes and {len(confidence)} confidences"
            )

    def __len__(self) -> int:
        return self.predicted.count(" ") + 1


@dataclass(frozen=True, kw_only=True)
class ParentClasses:
    """What the parent said when a set was crafted, as series of N classes of its largest logit.

    Attributes:
        clean: of the clean images.
        stored: of the images of the set.
    """

    clean: str
    stored: str

    def __post_init__(self) -> None:
        clean, stored = series_array(self.clean), series_array(self.stored)
        if len(clean) != len(stored) or min(clean.min(), stored.min()) < 0:
            raise InputError(
                "the parent's classes: expected one of 0 or more for each clean and each stored "
                f"image, came {len(clean)} and {len(stored)}"
            )

    def __len__(self) -> int:
        return self.clean.count(" ") + 1
