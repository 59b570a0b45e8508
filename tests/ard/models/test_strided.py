"""Narrow strided 1x1 convolutions: torch's own end the process on x86, and ours do not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ard.models.architectures import ARCHITECTURES, build_model
from ard.models.folding import FoldedTwin
from deploy.onnx_export.export import export_fp32
from deploy.qat.strided import WIDE, StridedConv2d, conv2d

CHILD = Path(__file__).with_name("strided_child.py")
ISA = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
AVX2 = dict(zip(ISA, ("avx2", "AVX2"), strict=True))
TIMEOUT_S = 300
PROCESSORS = pytest.mark.parametrize("processor", [AVX2, {}], ids=["avx2", "newest"])


def start(what: str, folder: Path, processor: dict[str, str]) -> subprocess.Popen[str]:
    """A child that takes the processor for one with AVX2, or for what it is."""
    folder.mkdir(exist_ok=True)
    own = {name: value for name, value in os.environ.items() if name not in ISA}
    command = [sys.executable, str(CHILD), what, str(folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=own | processor, stdout=pipe, stderr=pipe, text=True)


def finish(child: subprocess.Popen[str]) -> str:
    out, errors = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 0, f"ended with {child.returncode}: {errors}"
    return out


def test_torch_still_needs_it(tmp_path: Path) -> None:
    if platform.machine() != "x86_64" or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("the fault is one of x86 processors with AVX2")
    child = start("layer", tmp_path, AVX2)
    child.communicate(timeout=TIMEOUT_S)
    assert child.returncode != 0, (
        f"torch {torch.__version__} computes narrow strided 1x1 convolutions right: where that is "
        "the oldest that is supported, remove deploy/qat/strided.py"
    )


@PROCESSORS
def test_gradients_are_those_of_float64(processor: dict[str, str], tmp_path: Path) -> None:
    finish(start("mended", tmp_path, processor))


@PROCESSORS
def test_two_trainings_of_a_narrow_network_give_the_same_weights(
    processor: dict[str, str], tmp_path: Path
) -> None:
    children = [start("learn", tmp_path / str(i), processor) for i in range(2)]
    first, second = (finish(child).split() for child in children)
    assert [len(digest) for digest in first] == [64, 64]
    assert first == second


@pytest.mark.parametrize("architecture", ["resnet8:4", "resnet20:15", "resnet8:16", *ARCHITECTURES])
def test_every_layer_of_the_kind_is_ours_and_no_other(architecture: str) -> None:
    with torch.device("meta"):
        network = build_model(architecture, 1, 10, torch.zeros(1), torch.ones(1))
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            kind = layer.kernel_size == (1, 1) and layer.stride != (1, 1)
            narrow = layer.in_channels // layer.groups < WIDE
            assert isinstance(layer, StridedConv2d) == (kind and narrow), name


def test_it_cuts_only_where_weights_learn_and_computes_the_same() -> None:
    x, weight = torch.rand(2, 3, 9, 8), torch.rand(4, 3, 1, 1)
    expected = F.conv2d(x, weight, None, (2, 3))
    for learns in (False, True):
        found = conv2d(x, weight.requires_grad_(learns), None, (2, 3), (0, 0), (1, 1), 1)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected)


def test_other_convolutions_are_torch_s_own() -> None:
    x = torch.rand(2, 4, 9, 8)
    for shape, stride, padding, groups in (
        ((4, 4, 3, 3), (2, 2), (1, 1), 1),
        ((4, 4, 1, 1), (2, 2), (1, 1), 1),
        ((4, 4, 1, 3), (2, 2), (0, 0), 1),
        ((4, 1, 1, 1), (2, 1), (0, 0), 4),
    ):
        weight = torch.rand(shape, requires_grad=True)
        found = conv2d(x, weight, None, stride, padding, (1, 1), groups)
        torch.testing.assert_close(found, F.conv2d(x, weight, None, stride, padding, 1, groups))


def test_twins_still_fold_it_and_exports_hold_a_strided_convolution(tmp_path: Path) -> None:
    model = build_model("resnet8:4", 1, 10, torch.zeros(1), torch.ones(1)).eval()
    twin = FoldedTwin(model).module
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in twin.modules())
    # Of weights that still learn, too.
    export_fp32(model, (1, 8, 8), tmp_path / "m.onnx")
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert "Slice" not in {node.op_type for node in nodes}
    assert sum(node.op_type == "Conv" for node in nodes) == 9
