"""The whole way to a Raspberry Pi 5: by ssh into an aarch64 Python and its runtime, under QEMU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from edge_bench.core.spec import Report
from edge_bench.files.sets import open_set
from edge_bench.files.store import read_json
from edge_bench.options.bench import BenchOptions
from edge_bench.runs.one_run import run

QUICK = ("--runs", 3, "--seconds", 0, "--warmup", 0, "--settle-seconds", 0, "--threads", 1)


class Images(CalibrationDataReader):  # type: ignore[misc]
    """Images in [0, 1] to calibrate by, one batch."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._left = [{"images": images.astype(np.float32) / 255}]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


@pytest.fixture
def int8(make_model: Callable[..., Path], clean: NDArray[np.uint8], tmp_path: Path) -> Path:
    """The linear classifier with 8-bit activations and weights."""
    path = tmp_path / "int8.onnx"
    quantize_static(
        make_model(),
        path,
        Images(clean),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path


def test_a_pi_over_ssh_answers_as_this_machine_does(
    emulated_boards: dict[str, Any],
    board: Any,
    int8: Path,
    make_set: Callable[..., Path],
    quick: Callable[..., BenchOptions],
    invoke: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    sets, out = make_set(), tmp_path / "report.json"
    python = emulated_boards["pi-5"].python
    here = ("--ssh-config", tmp_path / "ssh_config", "--remote-python", python, "--out", out)
    words = ("bench", int8, "--sets", sets, "--device", "rpi", "--host", "board")
    code, _, stderr = invoke(*words, *here, *QUICK)
    assert code == 0, stderr
    there = read_json(out, Report, "a report")
    assert (there.device.device, there.device.architecture) == ("rpi", "aarch64")
    assert (there.device.board or "").startswith("Raspberry Pi 5")
    local = run(int8, [open_set(sets)], quick(device="local"))
    assert there.clean_mask == local.clean_mask
    assert [s.mask for s in there.sets] == [s.mask for s in local.sets]
    assert there.artifact.sha256 == local.artifact.sha256
    assert board.left == {"lock", "running.json"}
