"""What an `x86-vnni` artefact computes on its target, computed on processors without VNNI."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from deploy.artifact import Exported, export_artifact
from deploy.plan import ExportPlan, Int8Plan
from deploy.quantization.targets import target_here
from deploy.quantization.twin import make_weights_unsigned, open_as_target
from edge_bench import devices
from edge_bench.commands.benching.asked import warn_of_saturation
from edge_bench.core.saturation import cause, saturates
from edge_bench.core.spec import BackendInfo, ModelCard, Report
from edge_bench.devices.generic import has_vnni
from edge_bench.files.fingerprint import fingerprint_path, read_fingerprint
from edge_bench.files.store import read_json, sha256_file

from ...emulated import HASWELL, QEMU_X86, start_on_haswell, write_haswell

CARD = ModelCard(architecture="test", dataset="noise", classes=4, input_shape=(3, 8, 8))
DEPTH = 64


class Tied(nn.Module):
    """Convolutions and layers that share their weights, as recurrent blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.block = nn.Conv2d(16, 16, 3, padding=1)
        self.body = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for _ in range(3):
            x = torch.relu(self.block(x))
        x = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        logits: torch.Tensor = self.head(torch.relu(self.body(torch.relu(self.body(x)))))
        return logits


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    found = Tied()
    with torch.no_grad():
        # Wide enough for sums of 8-bit products to saturate.
        for parameter in found.parameters():
            parameter.mul_(2)
    return found.eval()


def exported(
    model: nn.Module, out: Path, target: str = "x86-vnni", root: Path = devices.ROOT
) -> Exported:
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    plan = ExportPlan(
        parent_sha256="f" * 64,
        int8=Int8Plan(target=target, calibration=images),
        check_images={"clean": images},
        check_labels=torch.zeros(64, dtype=torch.int64),
        least_agreement=0.9,
    )
    return export_artifact(model, CARD, plan, out, force=False, root=root)


@pytest.fixture(scope="module")
def haswell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a machine with AVX2 and no VNNI."""
    return write_haswell(tmp_path_factory.mktemp("haswell"))


@pytest.fixture(scope="module")
def artefact(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For x86-vnni, exported on this machine, whatever it is."""
    out = tmp_path_factory.mktemp("here") / "student.onnx"
    exported(model, out)
    return out


def product(weights: NDArray[np.int8]) -> onnx.ModelProto:
    """Levels (B, DEPTH) as integers by int8 weights (DEPTH, 4), steps of 1."""
    constants: dict[str, NDArray[Any]] = {
        "one": np.ones((), np.float32),
        "zero": np.zeros((), np.uint8),
        "w": weights,
        "none": np.zeros((), np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "one", "none"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", DEPTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, levels: NDArray[np.int64]) -> NDArray[np.int64]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (logits,) = session.run(None, {"images": levels.astype(np.float32)})
    return np.asarray(logits).astype(np.int64)


def in_saturating_pairs(levels: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.int64]:
    """As VPMADDUBSW adds: neighbouring products in 16 bits, and those sums in 32."""
    products = levels[:, :, None].astype(np.int64) * weights.astype(np.int64)
    pairs = products[:, 0::2] + products[:, 1::2]
    found: NDArray[np.int64] = pairs.clip(-(2**15), 2**15 - 1).sum(1)
    return found


def test_sums_of_8_bit_products_saturate_without_vnni_and_never_with_unsigned_weights() -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(200, 256, (8, DEPTH))
    weights = rng.integers(90, 128, (DEPTH, 4)).astype(np.int8) * np.array([1, 1, -1, -1], np.int8)
    exact = levels @ weights.astype(np.int64)
    saturated = in_saturating_pairs(levels, weights)
    assert (saturated != exact).all()
    graph = product(weights)
    vnni = has_vnni(devices.ROOT)
    if platform.machine() == "x86_64" and vnni is not None:
        assert np.array_equal(run(graph, levels), exact if vnni else saturated)
    make_weights_unsigned(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    assert np.array_equal(run(graph, levels), exact)


def test_an_export_is_judged_for_its_target_on_any_machine(
    model: nn.Module, artefact: Path, haswell: Path, tmp_path: Path
) -> None:
    out = tmp_path / "student.onnx"
    done = exported(model, out, root=haswell)
    assert done.parities[0].agreement > 0.9
    assert out.read_bytes() == artefact.read_bytes()
    ours, theirs = (
        read_fingerprint(fingerprint_path(path), sha256_file(path)) for path in (out, artefact)
    )
    assert np.array_equal(ours.logits, theirs.logits)


@pytest.mark.parametrize(
    ("target", "flags", "is_other"),
    [
        ("x86-vnni", "avx2", True),
        # Not to be read, and not guessed: the twin is right everywhere.
        ("x86-vnni", None, True),
        ("x86-vnni", "avx2 avx512_vnni", False),
        ("x86", "avx2", False),
        ("arm", "avx2", False),
    ],
)
def test_a_twin_computes_only_where_the_machine_may_not(
    target: str, flags: str | None, is_other: bool, model: nn.Module, tmp_path: Path
) -> None:
    path, root = tmp_path / "student.onnx", tmp_path / "root"
    exported(model, path, target)
    if flags is not None:
        write_haswell(root, flags)
    with open_as_target(path, 1, root=root) as backend:
        opened = vars(backend)["_path"]
        assert (opened != path) == is_other
        kinds = {t.data_type for t in onnx.load(opened).graph.initializer}
        assert (TensorProto.INT8 in kinds) != is_other
        assert backend.card is not None
        assert backend.card.recipe["int8_target"] == target


def test_auto_takes_what_does_not_saturate(haswell: Path) -> None:
    assert target_here(haswell, "x86_64") == ("x86", "x86_64 without VNNI")


@pytest.mark.parametrize(
    ("backend", "flags", "is_said"),
    [
        ("ort", "avx2", True),
        ("openvino", "avx2", True),
        ("ort-cuda", "avx2", False),
        ("ort", "avx2 avx_vnni", False),
        ("ort", None, False),
    ],
)
def test_bench_says_before_it_measures_that_products_saturate(
    backend: str,
    flags: str | None,
    is_said: bool,
    artefact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if flags is not None:
        write_haswell(tmp_path, flags)
    warn_of_saturation(artefact, [backend], tmp_path)
    said = capsys.readouterr().err
    assert bool(said) == is_said
    assert not said or "INT8 for x86-vnni, and this processor has no VNNI: 8-bit products" in said


# One start for both: it takes longer than they do.
BENCH_AND_COMPARE = """
import sys
from pathlib import Path
import numpy as np
from deploy.quantization.twin import open_as_target
from edge_bench.backends.ort import OrtBackend
from edge_bench.cli import app
from edge_bench.files.fingerprint import fingerprint_path
from edge_bench.robustness.inference import stored_logits
artefact, plain, *words = sys.argv[1:]
try:
    app(["bench", artefact, *words])
except SystemExit as ended:
    if ended.code:
        raise
for open_it, name in ((open_as_target, artefact), (OrtBackend, plain)):
    marks = np.load(fingerprint_path(Path(name)))
    with open_it(Path(name), 1) as backend:
        found = stored_logits(backend, marks["images"], 4)
    print(np.array_equal(found, marks["logits"]))
"""


@pytest.fixture
def emulated(haswell: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start Python on the machine without VNNI."""
    if platform.machine() != "x86_64" or not shutil.which(QEMU_X86):
        pytest.skip(f"needs an x86_64 machine with {QEMU_X86}: apt-get install qemu-user-static")
    return lambda *arguments: start_on_haswell(haswell, *arguments)


def test_a_processor_without_vnni_saturates_says_so_and_computes_the_twin_to_the_bit(
    emulated: Callable[..., subprocess.Popen[str]], model: nn.Module, artefact: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.onnx"
    exported(model, plain, "x86")
    quick = ("--seconds", 0, "--settle-seconds", 0, "--runs", 3, "--warmup", 0, "--threads", 1)
    where = ("--out", artefact.with_suffix(".json"), "--idle-seconds", 0, "--batch-size", 1)
    process = emulated("-c", BENCH_AND_COMPARE, artefact, plain, *where, *quick)
    printed, told = process.communicate()
    assert process.returncode == 0, told
    # The twin, and the file for x86 itself.
    assert printed.splitlines()[-2:] == ["True", "True"]

    report = read_json(artefact.with_suffix(".json"), Report, "a report")
    assert report.device.vnni is False
    assert report.device.cpu == HASWELL
    assert report.fingerprint is not None
    assert report.fingerprint.largest_difference > report.fingerprint.tolerance
    warnings = [line for line in told.splitlines() if line.startswith("warning: ")]
    first, last = (line for line in warnings if "VNNI" in line)
    assert "this processor has no VNNI: 8-bit products saturate in ONNX Runtime here" in first
    assert "something else than what was validated" in last
    assert "; the cause: this processor has no VNNI, and without it 8-bit products of" in last
    # The others follow from what was measured.
    assert warnings[0] == first


def test_a_saturating_runtime_is_a_likely_cause_where_vnni_cannot_be_read(
    artefact: Path, tmp_path: Path
) -> None:
    with open_as_target(artefact, 1) as backend:
        card = backend.card
    assert card is not None
    profile = replace(devices.probe("local", tmp_path), architecture="x86_64")
    ort = BackendInfo(name="ort", version="1", providers=(), threads=1)
    assert profile.vnni is None
    assert "which cannot be read here" in str(cause(card, ort, profile))
    assert "the cause: " in str(cause(card, ort, replace(profile, vnni=False)))
    for other in (replace(profile, vnni=True), replace(profile, architecture="aarch64")):
        assert cause(card, ort, other) is None
    in_float = replace(card, session_options={"session.disable_quant_qdq": "1"})
    assert cause(in_float, ort, profile) is None


def test_what_keeps_onnx_runtime_from_saturating_says_nothing_to_openvino() -> None:
    signed = {"session.qdqisint8allowed": "1"}
    arm = replace(CARD, precision="int8", recipe={"int8_target": "arm"}, session_options=signed)
    assert (saturates(arm, "ort"), saturates(arm, "openvino")) == (False, True)
    assert not saturates(replace(arm, recipe={"int8_target": "x86"}), "openvino")
