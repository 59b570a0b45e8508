"""Settings of every test, and the real data and small models that several tests share."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import pytest

from edge_bench.backends.nvidia import require_tensorrt
from edge_bench.backends.trt_rtx import TENSORRT_RTX
from edge_bench.core.errors import CapabilityError

from .emulated import CORES, QEMU, EmulatedBoard, make_emulated

# A shell's background job ignores Ctrl-C, and so would every process that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _exporters_memory() -> Iterator[None]:
    """What torch's exporter works out anew at each export, and always alike, it does once.

    Its translations are parsed from source, all of them, and all operators are listed: more than
    half the time of a small network's export, of which there are hundreds here.
    """
    try:
        import torch._export.utils as listing
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:  # Where a board's packages are tested alone, or torch has moved them.
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        for owner, name in (
            (ONNXRegistry, "from_torchlib"),
            (listing, "_collect_all_valid_cia_ops_for_namespace"),
        ):
            if hasattr(owner, name):
                patched.setattr(owner, name, staticmethod(functools.cache(getattr(owner, name))))
        yield


@pytest.fixture
def brief_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubts after an evaluation ask the model little: what they find has its own tests."""
    from ard.evaluation import doubts

    monkeypatch.setattr(doubts, "STEPS", 4)
    monkeypatch.setattr(doubts, "QUERIES", 10)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with CIFAR-10, a part of CIFAR-100 and a part of Tiny-ImageNet."""
    folder = os.environ.get("ARDX_TEST_DATA")
    if not folder:
        pytest.skip("ARDX_TEST_DATA does not name a folder with cifar-10-batches-py and others")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def rtx() -> Any:
    """The bindings of TensorRT for RTX, with which this process builds from then on."""
    try:
        return require_tensorrt(TENSORRT_RTX)
    except CapabilityError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def emulated_boards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EmulatedBoard]:
    """A Pi 4 and a Pi 5 with Python and ONNX Runtime for aarch64, by name."""
    system = os.environ.get("ARDX_TEST_BOARD")
    if not system:
        pytest.skip("ARDX_TEST_BOARD does not name a folder that tests/tools/aarch64.py filled")
    if not shutil.which(QEMU):
        pytest.skip(f"no {QEMU} here: apt-get install qemu-user-static")
    folder = tmp_path_factory.mktemp("boards")
    return {name: make_emulated(name, Path(system).resolve(), folder / name) for name in CORES}
