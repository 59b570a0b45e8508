"""One seed gives the same weights at every run, on a processor as if with AVX2 alone, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_bench.files.store import sha256_file

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


# With the vectors that a processor has beyond these, other tests repeat a training.
@pytest.mark.parametrize("threads", [1, 2])
def test_training_is_repeated_to_the_bit(tmp_path: Path, threads: int) -> None:
    # The network and the images that brought heap corruption to light.
    words = ["teach", "--dataset", "digits", "--arch", "resnet8:4", "--method", "natural"]
    environment = os.environ | AVX2 | {"OMP_NUM_THREADS": str(threads)}
    for name in ("a", "b"):
        command = [sys.executable, "-m", "ard", *words, "--epochs", "1"]
        command += ["--train-fraction", "0.3", "--out", name]
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )
        assert ended.returncode == 0, ended.stderr
    first, second = (sha256_file(tmp_path / n / "teacher.safetensors") for n in ("a", "b"))
    assert first == second
