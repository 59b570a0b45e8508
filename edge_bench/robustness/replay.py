"""Replay of adversarial sets: per-sample masks of the clean images and of each set, streamed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import Backend
from edge_bench.core.progress import ProgressCallback
from edge_bench.core.series import encode_array
from edge_bench.core.spec import Answers, Artifact, ParentClasses, SetResult
from edge_bench.files.journal import Answer, ask_anew
from edge_bench.files.sets import AdversarialSet, release
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.ahead import Ahead
from edge_bench.robustness.inference import logits_of_prepared, prepare
from edge_bench.statistics.metrics import BoolArray, answers_of, encode_mask

HELD_BYTES = 2 << 20
"""Images that stay in memory behind the replay: giving back every batch alone would cost a
twentieth of the time of a small network."""


RECORD = np.dtype([("predicted", "<u4"), ("confidence", "<u2")])
"""What is kept of the answer to one image."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The fields of a `Report` that a replay gives; those of none where there was nothing."""

    clean_mask: str | None = None
    clean_answers: Answers | None = None
    labels: str | None = None
    results: tuple[SetResult, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Told:
    """(N,) classes of the largest logit, and (N,) its softmax in units of `Answers`."""

    predicted: NDArray[np.uint32]
    confidence: NDArray[np.uint16]


def replay(
    sets: list[AdversarialSet],
    backend: Backend,
    artifact: Artifact,
    options: BenchOptions,
    report_progress: ProgressCallback,
    answer: Answer = ask_anew,
) -> Replayed:
    """What the artefact says of the clean images and of each set; `answer` gives each batch's."""
    if not sets:
        return Replayed()
    total = len(sets) + 1
    labels, classes = np.asarray(sets[0].labels), sets[0].manifest.classes
    told = answers_to(backend, sets[0].clean, classes, options, "the clean set", answer)
    clean = told.predicted == labels
    clean_answers = answers_of(told.predicted, told.confidence)
    report_progress(1, total, f"clean {clean.mean():.1%}")
    results: list[SetResult] = []
    for adversarial_set in sets:
        what = f"the set {adversarial_set.name}"
        told = answers_to(backend, adversarial_set.images, classes, options, what, answer)
        mask = told.predicted == labels
        results.append(
            SetResult(
                name=adversarial_set.name,
                manifest=adversarial_set.manifest,
                relation=artifact.relation_to(adversarial_set.manifest.source_sha256),
                mask=encode_mask(mask),
                answers=answers_of(told.predicted, told.confidence),
                parent=_parent(adversarial_set),
                beside_source=beside_source(mask, adversarial_set),
            )
        )
        report_progress(len(results) + 1, total, f"{adversarial_set.name} {mask.mean():.1%}")
    return Replayed(
        clean_mask=encode_mask(clean),
        clean_answers=clean_answers,
        labels=encode_array(labels),
        results=tuple(results),
    )


def beside_source(mask: BoolArray, adversarial_set: AdversarialSet) -> tuple[int, int]:
    """Samples that the artefact alone has right, and those that the set's source alone has."""
    fooled = np.asarray(adversarial_set.source_success)
    return int((mask & fooled).sum()), int((~mask & ~fooled).sum())


def _parent(adversarial_set: AdversarialSet) -> ParentClasses | None:
    if adversarial_set.parent is None:
        return None
    clean, stored = np.asarray(adversarial_set.parent).T
    return ParentClasses(clean=encode_array(clean), stored=encode_array(stored))


def correct_mask(
    backend: Backend,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    classes: int,
    options: BenchOptions,
    what: str,
    answer: Answer = ask_anew,
) -> BoolArray:
    """(N,) booleans: is the largest logit the label's? As `answers_to`."""
    told = answers_to(backend, images, classes, options, what, answer)
    return np.equal(told.predicted, np.asarray(labels))


def answers_to(
    backend: Backend,
    images: NDArray[Any],
    classes: int,
    options: BenchOptions,
    what: str,
    answer: Answer = ask_anew,
) -> Told:
    """The answers to images (N, C, H, W) of `what`, streamed.

    `answer` is called for each batch, as many of a graph's own as the options' takes, and may know
    what came of it before; see `journal`.

    Raises:
        InputError: NaN or infinite logits, or logits of the wrong shape.
    """
    bound = backend.input.batch_size or 1
    size = max(options.batch_size // bound, 1) * bound
    images = np.asarray(images)  # Slices of a memmap are slow to make.
    count = len(images)
    told = np.empty(count, dtype=RECORD)
    parts = [slice(at, min(at + size, count)) for at in range(0, count, size)]
    lent = [np.empty((size, *images.shape[1:]), dtype=np.float32) for _ in range(2)]

    def batch(index: int) -> NDArray[Any]:
        part = images[parts[index]]
        return prepare(part, backend.input, options, lent[index % 2][: len(part)])

    def said(index: int) -> bytes:
        part = parts[index]
        which = f"an image among {part.start} to {part.stop - 1} of {what}"
        return records_of(logits_of_prepared(backend, ahead.take(index), classes, which)).tobytes()

    held = 0
    with Ahead(batch, len(parts)) as ahead:
        for index, part in enumerate(parts):
            told[part] = np.frombuffer(answer(partial(said, index)), dtype=RECORD)
            if images[held : part.stop].nbytes >= HELD_BYTES or part.stop == count:
                release(images[held : part.stop])
                held = part.stop
    return Told(predicted=told["predicted"], confidence=told["confidence"])


def records_of(logits: NDArray[np.float32]) -> NDArray[np.void]:
    """(B,) records of logits (B, C)."""
    found = np.empty(len(logits), dtype=RECORD)
    found["predicted"] = logits.argmax(axis=1)
    # The softmax of the largest: one over the sum of exponentials of what the others lie below it.
    total = np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    found["confidence"] = np.rint(Answers.CONFIDENCE_STEPS / total)
    return found
