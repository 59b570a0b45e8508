"""A set of another library, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from .crafting_child import CLASSES

N = 25
Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def arrays() -> Arrays:
    """A set in levels: images within 8 of the clean ones."""
    rng = np.random.default_rng(0)
    clean = rng.integers(8, 248, (N, 3, 4, 4), dtype=np.uint8)
    images = clean + rng.integers(0, 9, clean.shape, dtype=np.uint8)
    return {"images": images, "clean": clean, "labels": rng.integers(0, CLASSES, N)}
