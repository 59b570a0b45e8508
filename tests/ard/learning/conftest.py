"""Data of which an epoch is a handful of steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ard.data.splits import Dataset


@pytest.fixture(scope="session")
def few(digits: Dataset) -> Dataset:
    """320 digits, of which 288 are trained on: 18 batches of 16, or 4 of 64."""
    return replace(digits, train=digits.train.part(0, 320), test=digits.test.part(0, 40))
