"""A small trained network and a few images, for the tests of attacks."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from ard.data.splits import Dataset, as_float, take_limit

from ..conftest import FirstClasses


@pytest.fixture(scope="module")
def network(dense: nn.Module) -> nn.Module:
    return dense


@pytest.fixture(scope="module")
def four_classes(dense: nn.Module) -> nn.Module:
    return FirstClasses(dense).eval()


@pytest.fixture(scope="module")
def images_and_labels(digits: Dataset) -> tuple[Tensor, Tensor]:
    split = take_limit(digits.test, 24)
    return as_float(split.images), split.labels


@pytest.fixture(scope="module")
def of_four_classes(images_and_labels: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Those of the images that are of the first four classes, about ten."""
    images, labels = images_and_labels
    return images[labels < 4], labels[labels < 4]
