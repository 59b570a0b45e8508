"""A report that several tests hold to conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report


@pytest.fixture
def report(make_report: Callable[..., Report]) -> Report:
    """1,000 images, 10 classes in turn; 900 right, 500 under attack; class 9 the worst."""
    clean = np.arange(1000) % 10 != 9
    attacked = (np.arange(1000) < 560) & clean
    found = make_report(
        "".join("01"[int(c)] for c in clean),
        {"pgd": "".join("01"[int(a)] for a in attacked)},
        classes=10,
    )
    return replace(found, labels=encode_series(int(i) % 10 for i in range(1000)))
