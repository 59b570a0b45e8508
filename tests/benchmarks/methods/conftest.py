"""What the tests of these scripts share: a run that takes seconds, and threads given back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

SETTINGS = {
    "dataset": "digits",
    "architecture": "resnet8:4",
    "method": "pgd_at",
    "epsilon": 8 / 255,
    "inner_steps": 1,
    "epochs": 4,
    "train_fraction": 0.3,
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The scripts take one, which is not to last."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
