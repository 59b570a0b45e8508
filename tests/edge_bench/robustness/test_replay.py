"""What a replay keeps of the artefact's answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import scipy.special
from numpy.typing import NDArray

from edge_bench.backends import open_backend
from edge_bench.core.errors import InputError
from edge_bench.files.sets import AdversarialSet
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.replay import answers_to
from edge_bench.runs.one_run import run
from edge_bench.statistics.metrics import decode_mask
from tests.edge_bench.conftest import CLASSES


def test_answers_are_the_argmax_and_the_softmax_of_a_bare_session(
    make_model: Callable[..., Path], clean: NDArray[np.uint8]
) -> None:
    model = make_model()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = clean.astype(np.float32) / np.float32(255)
    logits = np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])
    softmax = scipy.special.softmax(logits.astype(np.float64), axis=1)
    with open_backend("ort", model, 1) as backend:
        told = answers_to(backend, clean, CLASSES, BenchOptions(batch_size=7), "a set")
    assert (told.predicted == logits.argmax(axis=1)).all()
    assert np.abs(told.confidence / 10_000 - softmax.max(axis=1)).max() <= 0.6e-4


def test_a_replay_counts_what_artefact_and_source_tell_apart(
    make_model: Callable[..., Path], opened: AdversarialSet, quick: Callable[..., BenchOptions]
) -> None:
    right = decode_mask(run(make_model(), [opened], quick()).sets[0].mask)
    # A source that was fooled on the first half of what the artefact has right and wrong.
    fooled = np.arange(len(right)) < len(right) // 2
    report = run(make_model(), [replace(opened, source_success=fooled)], quick())
    (result,) = report.sets
    assert result.beside_source == ((right & fooled).sum(), (~right & ~fooled).sum())
    with pytest.raises(InputError, match="expected beside_source to count samples"):
        replace(result, beside_source=(len(right) + 1, 0))
