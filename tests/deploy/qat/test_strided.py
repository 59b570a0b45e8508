"""Narrow strided 1x1 convolutions: right gradients, and the day when torch needs no help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deploy.onnx_export.export import export_fp32
from deploy.qat.strided import StridedConv2d, conv2d, is_affected, mend

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
X86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")

PROGRAM = """
import sys, torch
from torch.nn import functional as F
from deploy.qat.strided import conv2d
whose, *threads = sys.argv[1:]
draw = torch.Generator().manual_seed(0)
# Large images overrun by more than the heap can hide, with AVX512 from 8 channels on too.
small = ((4, 8, 128), (1, 8, 128), (3, 16, 128), (6, 4, 128))
for channels, size, count in (*small, (4, 128, 32), (15, 128, 8)):
    x = torch.randn(count, channels, size, size, generator=draw)
    x = x.contiguous(memory_format=torch.channels_last)
    w = torch.randn(8, channels, 1, 1, generator=draw, requires_grad=True)
    up = torch.randn(count, 8, size // 2, size // 2, generator=draw)
    cut = x[:, :, ::2, ::2].double()
    (true,) = torch.autograd.grad((F.conv2d(cut, w.double()) * up).sum(), w)
    for number in threads:
        torch.set_num_threads(int(number))
        for _ in range(20 if size < 128 else 5):
            y = F.conv2d(x, w, stride=2) if whose == "torch" else conv2d(
                x, w, None, (2, 2), (0, 0), (1, 1), 1)
            (found,) = torch.autograd.grad((y * up).sum(), w)
            wrong = (found - true).abs().max()
            assert wrong <= 1e-3 * true.abs().max(), (channels, size, number)
"""


def run(
    whose: str, *threads: str, instructions: dict[str, str] = AVX2
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, whose, *threads],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k not in AVX2} | instructions,
        timeout=300,
    )


@pytest.mark.parametrize("instructions", [{}, AVX2], ids=["own", "avx2"])
def test_gradients_are_right(instructions: dict[str, str]) -> None:
    ended = run("ours", "1", "2", instructions=instructions)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(not X86, reason="oneDNN's kernels for x86 are not used on this processor")
def test_torch_still_needs_it() -> None:
    # With one thread it dies; with two it may hang.
    assert run("torch", "1").returncode != 0, (
        f"torch {torch.__version__} computes narrow strided 1x1 convolutions right; once that is "
        "the oldest that is supported, remove deploy/qat/strided.py"
    )


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "affected"),
    [
        (8, 1, 2, 0, True),
        (15, 1, 3, 0, True),
        (16, 1, 2, 0, False),
        (8, 1, 1, 0, False),
        (8, 3, 2, 0, False),
        (8, 1, 2, 1, False),
    ],
)
def test_only_narrow_strided_1x1_convolutions_are_steered_around(
    channels: int, kernel: int, stride: int, padding: int, affected: bool
) -> None:
    network = nn.Sequential(nn.Conv2d(channels, 4, kernel, stride, padding))
    weight = network[0].weight
    assert is_affected(weight, (stride, stride), (padding, padding)) == affected  # type: ignore[arg-type]
    before = network.state_dict()
    mend(network)
    assert isinstance(network[0], StridedConv2d) == affected
    assert network.state_dict().keys() == before.keys()


def test_an_exported_network_has_the_convolution_itself(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, 2), nn.Flatten(), nn.Linear(64, 5))
    mend(network)
    export_fp32(network, (3, 8, 8), tmp_path / "a.onnx")
    assert "Slice" not in {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}


def test_values_and_gradients_are_those_of_the_same_convolution_in_float64() -> None:
    x = torch.randn(3, 6, 7, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    ours = conv2d(x, w, b, (2, 3), (0, 0), (1, 1), 2)
    theirs = F.conv2d(x, w, b, (2, 3), groups=2)
    assert torch.allclose(ours, theirs)
    up = torch.randn_like(ours)
    for mine, other in zip(
        torch.autograd.grad(ours, (x, w, b), up),
        torch.autograd.grad(theirs, (x, w, b), up),
        strict=True,
    ):
        assert torch.allclose(mine, other)
