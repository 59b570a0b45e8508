"""One seed gives the same weights at every run, on a processor as if with AVX2 alone, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge_bench.files.store import sha256_file

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


# The network and the images that brought heap corruption to light.
TRAININGS = """
import torch
from ard.cli import app
words = ["teach", "--dataset", "digits", "--arch", "resnet8:4", "--method", "natural"]
words += ["--epochs", "1", "--train-fraction", "0.3", "--out"]
for name in ("a", "b"):
    for threads in (2, 1):
        torch.set_num_threads(threads)
        app([*words, f"{name}/{threads}"], standalone_mode=False)
"""


# With the vectors that a processor has beyond these, other tests repeat a training, and those below
# torchrun in other processes. Here the second finds memory as the first has left it.
def test_training_is_repeated_to_the_bit_by_one_thread_and_by_two(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TRAININGS],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | AVX2,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    for threads in ("1", "2"):
        first, second = (tmp_path / name / threads / "teacher.safetensors" for name in ("a", "b"))
        assert sha256_file(first) == sha256_file(second)
