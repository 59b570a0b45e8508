"""What `export` writes for NVIDIA's compilers, through a real one: parsed, built, and in integers.

TensorRT for RTX compiles without a GPU. What the engines compute, only a GPU can show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from benchmarks.tensorrt.account import WEIGHTED, Account, read_account
from deploy.artifact import export_artifact
from deploy.onnx_export.export import export_fp32
from deploy.plan import ExportPlan, Int8Plan
from deploy.qat.qdq_network import QDQNetwork
from deploy.quantization.half import HalfMaker
from deploy.quantization.quantize import Quantiser
from deploy.quantization.targets import TARGETS, require_parsed
from edge_bench.backends.trt_rtx import build_ahead, known_capabilities
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.options.engine import EngineOptions

pytestmark = pytest.mark.usefixtures("rtx")

SHAPE = (3, 16, 16)
CARD = ModelCard(architecture="test", dataset="noise", classes=4, input_shape=SHAPE)
AMPERE_ON = ("sm80", "sm86", "sm89", "sm120", "sm121")
Build = Callable[..., tuple[bytes, Account]]


class Inverted(nn.Module):
    """What students are made of: a strided and a depthwise convolution, ReLU6, a sum, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU6())
        self.wise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6()
        )
        self.body = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem((x - 0.5) / 0.25)
        x = torch.relu(x + self.body(self.wise(x)))
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return 20 * logits


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Inverted().eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def graphs(model: nn.Module, images: torch.Tensor, tmp_path_factory: Any) -> dict[str, Path]:
    """The network in every precision, by its name; `mixed` has its depthwise layer in float."""
    folder = tmp_path_factory.mktemp("graphs")
    names = ("fp32", "int8", "mixed", "fp16", "x86", "arm")
    found = {name: folder / f"{name}.onnx" for name in names}
    export_fp32(model, SHAPE, found["fp32"])
    for name, target in (("int8", "tensorrt"), ("x86", "x86"), ("arm", "arm")):
        quantiser = Quantiser(found["fp32"], folder, images.numpy(), target)
        quantiser.make(found[name])
        if name == "int8":
            assert "Conv" in str(quantiser.layers[1].nodes)
            quantiser.make(found["mixed"], quantiser.layers[1:2])
    HalfMaker(found["fp32"], folder, images.numpy()).make(found["fp16"])
    return found


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def engine_of(path: Path, wanted: str = "sm86", **options: Any) -> tuple[bytes, Account]:
        out = tmp_path / f"{path.stem}-{wanted.replace(',', '-')}.engine"
        here = EngineOptions(cache=tmp_path / "cache", **options)
        build_ahead(path, out, wanted, here, force=True)
        nodes = [n.name for n in onnx.load(path).graph.node if n.op_type in WEIGHTED]
        assert len(nodes) == 4
        return out.read_bytes(), read_account(out.read_bytes(), nodes)

    return engine_of


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("fp32", {"float": 4}),
        ("fp16", {"half": 4}),
        ("int8", {"int8": 4}),
        ("mixed", {"int8": 3, "float": 1}),
    ],
)
@pytest.mark.parametrize("wanted", AMPERE_ON)
def test_every_layer_is_computed_in_the_precision_of_the_file(
    graphs: dict[str, Path], build: Build, name: str, kinds: dict[str, int], wanted: str
) -> None:
    _, account = build(graphs[name], wanted)
    assert account.capabilities == (wanted,)
    assert {kind: account.count(kind) for kind in set(account.layers.values())} == kinds
    assert not account.tf32


def test_weights_stay_integers_and_halves(graphs: dict[str, Path], build: Build) -> None:
    weights = {name: build(graphs[name])[1].weights for name in ("fp32", "fp16", "int8")}
    values = 16 * 3 * 9 + 16 * 9 + 16 * 16 + 16 * 4
    assert weights["fp32"] == {"float": 4 * values}
    # A layer of a few weights may be padded, as three channels are to four.
    (kind,), (size,) = weights["int8"].keys(), weights["int8"].values()
    assert kind == "int8"
    assert values <= size <= 2 * values
    (kind,), (size,) = weights["fp16"].keys(), weights["fp16"].values()
    assert kind == "half"
    assert 2 * values <= size <= 4 * values


def test_one_engine_is_for_all_capabilities_that_were_named(
    graphs: dict[str, Path], build: Build
) -> None:
    _, account = build(graphs["int8"], "sm120,sm86")
    assert account.capabilities == ("sm86", "sm120")
    assert account.count("int8") == 4


def test_turing_has_kernels_for_fp16(graphs: dict[str, Path], build: Build) -> None:
    _, account = build(graphs["fp16"], "sm75")
    assert (account.capabilities, account.count("half")) == (("sm75",), 4)


def test_the_capabilities_that_are_known(rtx: Any) -> None:
    known = known_capabilities(rtx)
    assert set(known) >= {"sm75", *AMPERE_ON}
    assert (known["sm86"], known["sm120"]) == ("8.6", "12.0")


@pytest.mark.parametrize("name", ["x86", "arm"])
def test_files_for_processors_are_refused_in_one_sentence(
    graphs: dict[str, Path], build: Build, name: str
) -> None:
    with pytest.raises(InputError, match=r"cannot read it \(.*has type Int32.*--target") as caught:
        build(graphs[name])
    sentence = str(caught.value)
    assert sentence.startswith(f"{graphs[name]}: TensorRT for RTX ")
    # The library cannot ask a GPU either, which has nothing to do with it.
    assert "\n" not in sentence
    assert "cuda" not in sentence.lower()


# --- export asks the parser -------------------------------------------------------------------


def plan(images: torch.Tensor, **how: Any) -> ExportPlan:
    zeros = torch.zeros(len(images), dtype=torch.long)
    checks = {"clean": images, "adversarial": images}
    common: dict[str, Any] = {"check_images": checks, "check_labels": zeros}
    return ExportPlan(parent_sha256="f" * 64, least_agreement=0.0, **(common | how))


@pytest.mark.parametrize(
    ("precision", "target", "how"),
    [
        ("int8", "tensorrt", {"input": "uint8"}),
        ("int8", "tensorrt-rtx", {"input": "uint8", "batch_size": 4}),
        ("fp32", "tensorrt-rtx", {"input": "uint8"}),
        ("fp16", "tensorrt", {"batch_size": 2}),
    ],
)
def test_what_export_writes_is_read_and_built(
    model: nn.Module,
    images: torch.Tensor,
    build: Build,
    tmp_path: Path,
    precision: str,
    target: str,
    how: dict[str, Any],
) -> None:
    int8 = Int8Plan(target=target, calibration=images) if precision == "int8" else None
    for_float = {} if int8 else {"target": target, "fp16": precision == "fp16"}
    path = tmp_path / "student.onnx"
    asked = plan(images, int8=int8, **for_float, **how)
    exported = export_artifact(model, CARD, asked, path, force=False)
    assert (exported.parser or "").startswith("TensorRT")
    _, account = build(path)
    assert account.count({"int8": "int8", "fp32": "float", "fp16": "half"}[precision]) == 4


def test_what_the_parser_refuses_is_not_written(
    model: nn.Module, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a target that rounds biases to int32 would have it.
    wrong = replace(TARGETS["tensorrt"], extra={})
    monkeypatch.setitem(TARGETS, "tensorrt", wrong)
    out = tmp_path / "student.onnx"
    int8 = Int8Plan(target="tensorrt", calibration=images)
    with pytest.raises(InputError, match=r"--target tensorrt: TensorRT .* cannot read .*nothing"):
        export_artifact(model, CARD, plan(images, int8=int8), out, force=False)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_trained_as_int8_stay_integers(
    graphs: dict[str, Path], images: torch.Tensor, build: Build, tmp_path: Path
) -> None:
    network = QDQNetwork(onnx.load(graphs["int8"]), "tensorrt").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.01 * torch.rand_like(parameter))
    path, int8 = tmp_path / "student.onnx", Int8Plan(target="tensorrt")
    assert export_artifact(network, CARD, plan(images, int8=int8), path, force=False).parser
    assert build(path)[1].count("int8") == 4


def test_nobody_is_asked_for_a_processor(graphs: dict[str, Path]) -> None:
    assert require_parsed(graphs["x86"], "x86") is None
    with pytest.raises(InputError, match="--target arm: chooses INT8 settings"):
        plan(torch.rand(1, *SHAPE), int8=None, target="arm")
