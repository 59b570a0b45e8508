"""Replay of adversarial sets: per-sample masks of the clean images and of each set, streamed."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import Backend
from edge_bench.core.metrics import BoolArray, encode_mask, pack_bits, unpack_bits
from edge_bench.core.progress import ProgressCallback
from edge_bench.core.spec import Artifact, SetResult
from edge_bench.files.journal import Answer, ask_anew
from edge_bench.files.sets import AdversarialSet, release
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.ahead import Ahead
from edge_bench.robustness.inference import logits_of_prepared, prepare

HELD_BYTES = 2 << 20
"""Images that stay in memory behind the replay: giving back every batch alone would cost a
twentieth of the time of a small network."""


def replay(
    sets: list[AdversarialSet],
    backend: Backend,
    artifact: Artifact,
    options: BenchOptions,
    report_progress: ProgressCallback,
    answer: Answer = ask_anew,
) -> tuple[str | None, tuple[SetResult, ...]]:
    """The mask of the clean images, and one of each set; `answer` gives that of each batch."""
    if not sets:
        return None, ()
    total = len(sets) + 1
    labels, classes = sets[0].labels, sets[0].manifest.classes
    clean = correct_mask(backend, sets[0].clean, labels, classes, options, "the clean set", answer)
    report_progress(1, total, f"clean {clean.mean():.1%}")
    results: list[SetResult] = []
    for adversarial_set in sets:
        what = f"the set {adversarial_set.name}"
        mask = correct_mask(backend, adversarial_set.images, labels, classes, options, what, answer)
        results.append(
            SetResult(
                name=adversarial_set.name,
                manifest=adversarial_set.manifest,
                relation=_relation(adversarial_set, artifact),
                mask=encode_mask(mask),
            )
        )
        report_progress(len(results) + 1, total, f"{adversarial_set.name} {mask.mean():.1%}")
    return encode_mask(clean), tuple(results)


def correct_mask(
    backend: Backend,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    classes: int,
    options: BenchOptions,
    what: str,
    answer: Answer = ask_anew,
) -> BoolArray:
    """(N,) booleans: is the largest logit the label's? Images (N, C, H, W) of `what`, streamed.

    `answer` is called for each batch, as many of a graph's own as the options' takes, and may know
    what came of it before; see `journal`.

    Raises:
        InputError: NaN or infinite logits, or logits of the wrong shape.
    """
    bound = backend.input.batch_size or 1
    size = max(options.batch_size // bound, 1) * bound
    correct = np.zeros(len(labels), dtype=np.bool_)
    images, labels = np.asarray(images), np.asarray(labels)  # Slices of a memmap are slow to make.
    parts = [slice(at, min(at + size, len(labels))) for at in range(0, len(labels), size)]
    lent = [np.empty((size, *images.shape[1:]), dtype=np.float32) for _ in range(2)]

    def batch(index: int) -> NDArray[Any]:
        part = images[parts[index]]
        return prepare(part, backend.input, options, lent[index % 2][: len(part)])

    def right(index: int) -> bytes:
        part = parts[index]
        which = f"an image among {part.start} to {part.stop - 1} of {what}"
        logits = logits_of_prepared(backend, ahead.take(index), classes, which)
        return pack_bits(logits.argmax(axis=1) == labels[part])

    held = 0
    with Ahead(batch, len(parts)) as ahead:
        for index, part in enumerate(parts):
            answered = answer(partial(right, index))
            correct[part] = unpack_bits(answered, part.stop - part.start)
            if images[held : part.stop].nbytes >= HELD_BYTES or part.stop == len(labels):
                release(images[held : part.stop])
                release(labels[held : part.stop])
                held = part.stop
    return correct


def _relation(adversarial_set: AdversarialSet, artifact: Artifact) -> str:
    source = adversarial_set.manifest.source_sha256
    if source == artifact.sha256:
        return "this artefact"
    if artifact.card is not None and source == artifact.card.parent_sha256:
        return "its parent"
    return "another model"
