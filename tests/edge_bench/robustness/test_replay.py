"""What a replay keeps of the artefact's answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import scipy.special
from numpy.typing import NDArray

from edge_bench.backends import open_backend
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.replay import answers_to
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
