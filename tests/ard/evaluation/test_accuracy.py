"""What an attack climbs on, and what judges the images that it finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ard.attacks.registry import parse_attack
from ard.data.splits import Dataset, Split, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.folding import for_attack_in_bf16
from ard.models.predict import predict
from ard.models.weight_files import load_model

from ..conftest import EPSILON, SmallModels

SPEC = parse_attack("pgd10", epsilon=EPSILON)


class ErrsEverywhere(nn.Module):
    """The same gradients turned round: wrong wherever the model is right."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return -logits


@pytest.fixture
def split(digits: Dataset) -> Split:
    return take_limit(digits.test, 120)


def as_it_is(model: nn.Module) -> nn.Module:
    return model


def test_the_model_judges_whatever_the_attack_climbed_on(
    small_models: SmallModels, split: Split
) -> None:
    model, _ = load_model(small_models.student.weights)
    # Without a random start, so that a sample's end does not depend on those beside it.
    spec = parse_attack("fgsm", epsilon=EPSILON)
    found = evaluate_attack(model, split, spec, climbed=ErrsEverywhere)
    # All that the false twin takes for found is disputed, and attacked once more on the model.
    assert np.array_equal(found, evaluate_attack(model, split, spec, climbed=as_it_is))
    assert 0 < found.mean() < evaluate_attack(model, split, None).mean()


def test_gradients_in_bf16_find_as_much_and_their_verdicts_are_in_fp32(
    small_models: SmallModels, split: Split
) -> None:
    model, _ = load_model(small_models.student.weights)
    images = as_float(split.images)
    mask = evaluate_attack(model, split, SPEC, climbed=for_attack_in_bf16, found=images)
    fp32 = evaluate_attack(model, split, SPEC)
    assert abs(mask.mean() - fp32.mean()) <= 0.05
    assert np.array_equal(mask, (predict(model, images) == split.labels).numpy())


def test_the_twin_in_bf16_gives_the_logits_in_fp32_up_to_its_digits(
    small_models: SmallModels, split: Split
) -> None:
    model, _ = load_model(small_models.student.weights)
    images = as_float(split.images)
    with torch.no_grad():
        logits, theirs = model(images), for_attack_in_bf16(model)(images)
    assert theirs.dtype == torch.float32
    error = float((logits - theirs).norm() / logits.norm())
    assert 1e-6 < error < 0.02
