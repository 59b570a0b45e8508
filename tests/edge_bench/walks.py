"""Walks from files to logits, made without files."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_bench.core.pictures.walked import Walked
from edge_bench.core.series import encode_series
from edge_bench.statistics.metrics import answers_of

SAMPLES = 400


def walked(wrong: range = range(0), *, ms: float = 2.0, **fields: Any) -> Walked:
    """Pictures of ants and bees in turn, of which those in `wrong` are taken for the other."""
    labels = np.arange(SAMPLES) % 2
    classes = np.where(np.isin(np.arange(SAMPLES), wrong), 1 - labels, labels)
    answers = answers_of(classes, np.full(SAMPLES, 5000))
    jitter = np.random.default_rng(0).integers(0, 1000, SAMPLES)
    times = (1e6 * ms / 2 + jitter).astype(int).tolist()
    plain: dict[str, Any] = {
        "folder": "photos",
        "files_sha256": "f" * 64,
        "pipeline": "pillow",
        "class_names": ("ant", "bee"),
        "labels": encode_series(labels.tolist()),
        "answers": answers,
        "card_answers": answers,
        "stages": {"read": encode_series(times), "decode": encode_series(times)},
    }
    return Walked(**(plain | fields))
