"""Accuracies as functions of per-sample masks: strings with a '1' for each correct sample."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.series import encode_array, series_array
from edge_bench.core.spec import Answers, Report, SetResult

BoolArray = NDArray[np.bool_]


def encode_mask(correct: BoolArray) -> str:
    """(N,) booleans to a string of N characters '0' and '1'."""
    return (correct.astype(np.uint8) + ord("0")).tobytes().decode("ascii")


def decode_mask(mask: str) -> BoolArray:
    """The inverse of `encode_mask`."""
    levels = np.frombuffer(mask.encode("ascii"), dtype=np.uint8)
    return np.equal(levels, ord("1"))


def pack_bits(values: BoolArray) -> bytes:
    """(N,) booleans, eight a byte."""
    return np.packbits(values).tobytes()


def unpack_bits(packed: bytes, count: int) -> BoolArray:
    """The inverse of `pack_bits`, for as many booleans as it was given."""
    assert len(packed) == (count + 7) // 8, "bits of another batch"
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count).view(np.bool_)


def answers_of(predicted: NDArray[Any], confidence: NDArray[Any]) -> Answers:
    """(N,) classes and (N,) confidences, in their units, as a report keeps them."""
    return Answers(predicted=encode_array(predicted), confidence=encode_array(confidence))


def accuracy(mask: str) -> float:
    """Fraction of correct samples over all N."""
    return mask.count("1") / len(mask)


def adversarial(report: Report) -> list[SetResult]:
    """The results that the worst case is over: all but those of `spec.COMPARED`."""
    return [result for result in report.sets if not result.manifest.is_compared]


def worst_case_mask(report: Report) -> str | None:
    """Right on the clean image and under every attack on it; None where none was replayed.

    Differential sets and corruptions are no part of it (see `adversarial`).
    """
    found = adversarial(report)
    if report.clean_mask is None or not found:
        return None
    worst = decode_mask(report.clean_mask)
    for result in found:
        worst = worst & decode_mask(result.mask)
    return encode_mask(worst)


def labels_of(report: Report) -> NDArray[np.int64] | None:
    """(N,) class numbers of the replayed images; None where the report does not tell them."""
    return None if report.labels is None else _read_once(report.labels)


@lru_cache(maxsize=1)
def _read_once(labels: str) -> NDArray[np.int64]:
    """The last labels stay read: every figure by class asks for them. Not to be written to."""
    found = series_array(labels)
    found.flags.writeable = False
    return found


def class_names(report: Report) -> dict[int, str]:
    """The name of every class of the sets, or its number where none was told."""
    labels = labels_of(report)
    manifests = [s.manifest for s in report.sets]
    card = report.artifact.card
    names = next((m.class_names for m in manifests if m.class_names), card and card.class_names)
    count = manifests[0].classes if manifests else 0
    if labels is not None and len(labels):
        count = max(count, int(labels.max()) + 1)
    known = dict(enumerate(names or ()))
    return {label: known.get(label, str(label)) for label in range(count)}
