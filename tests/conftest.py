"""Settings of every test, and the real data and small models that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with CIFAR-10, a part of CIFAR-100 and a part of Tiny-ImageNet."""
    folder = os.environ.get("ARDX_TEST_DATA")
    if not folder:
        pytest.skip("ARDX_TEST_DATA does not name a folder with cifar-10-batches-py and others")
    return Path(folder).resolve()
