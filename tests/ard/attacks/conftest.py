"""A trained student and a few images, for the tests of attacks."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from ard.data.splits import Dataset, as_float, take_limit
from ard.models.weight_files import load_model

from ..conftest import SmallModels


@pytest.fixture(scope="module")
def network(small_models: SmallModels) -> nn.Module:
    model, _ = load_model(small_models.student.weights)
    return model


@pytest.fixture(scope="module")
def images_and_labels(digits: Dataset) -> tuple[Tensor, Tensor]:
    split = take_limit(digits.test, 24)
    return as_float(split.images), split.labels
