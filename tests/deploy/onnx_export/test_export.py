"""ONNX artefacts of a small convolutional network: graph, metadata, INT8 types, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ard.models.deployed import Deployed
from deploy.artifact import export_artifact
from deploy.onnx_export.parity import Parity, compare, levels_of, require_agreement
from deploy.plan import ExportPlan, Int8Plan
from deploy.quantization.targets import TARGETS
from deploy.reading.network import Ends, read_network
from edge_bench.backends.ort import OrtBackend
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.onnx_file import read_onnx
from edge_bench.options.bench import BenchOptions
from edge_bench.runs.one_run import run

CARD = ModelCard(
    architecture="test", dataset="noise", classes=4, input_shape=(3, 8, 8), recipe={"epsilon": 0.1}
)


class Residual(nn.Module):
    """A network with what quantisers trip over: normalisation, BN, ReLU6, a residual addition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem((x - 0.5) / 0.25)
        x = torch.relu(x + self.body(x))
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return 20 * logits


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = Residual()
    with torch.no_grad():
        for _ in range(20):
            model(torch.rand(32, 3, 8, 8))
    return model.eval()


def plan(model: nn.Module, target: str | None, least: float = 0.0, **changes: Any) -> ExportPlan:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(200, 3, 8, 8, generator=generator)
    with torch.no_grad():
        labels = model(images).argmax(1)
    calibration = torch.rand(64, 3, 8, 8, generator=generator)
    return ExportPlan(
        parent_sha256="f" * 64,
        int8=Int8Plan(target=target, calibration=calibration) if target else None,
        check_images={"clean": images, "adversarial": (images + 0.05).clamp(0, 1)},
        check_labels=labels,
        least_agreement=least,
        **changes,
    )


@pytest.fixture(scope="module")
def artifacts(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    found: dict[str, Path] = {}
    for target in (None, *TARGETS):
        name = target or "fp32"
        found[name] = folder / f"{name}.onnx"
        export_artifact(model, CARD, plan(model, target), found[name], force=False)
    return found


def test_fp32_computes_what_torch_computes_at_any_batch_size(
    model: nn.Module, artifacts: dict[str, Path]
) -> None:
    with OrtBackend(artifacts["fp32"]) as backend:
        for count in (1, 2, 7, 64):
            images = torch.rand(count, 3, 8, 8)
            with torch.no_grad():
                expected = model(images).numpy()
            np.testing.assert_allclose(backend.infer(images.numpy()), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["fp32", *TARGETS])
def test_the_card_and_its_essentials_travel_in_the_metadata(
    name: str, artifacts: dict[str, Path]
) -> None:
    properties = {p.key: p.value for p in onnx.load(artifacts[name]).metadata_props}
    assert properties["classes"] == "4"
    assert properties["dataset"] == "noise"
    assert properties["parent_sha256"] == "f" * 64
    assert "0..1" in properties["input_range"]
    card = json.loads(properties["ardx_card"])
    assert card["precision"] == ("fp32" if name == "fp32" else "int8")
    assert card["recipe"]["epsilon"] == 0.1
    assert card["recipe"].get("int8_target") == (None if name == "fp32" else name)
    with OrtBackend(artifacts[name]) as backend:
        assert backend.card is not None
        assert backend.card.parent_sha256 == "f" * 64


@pytest.mark.parametrize("name", ["fp32", *TARGETS])
def test_an_artefact_is_one_file_of_opset_18(name: str, artifacts: dict[str, Path]) -> None:
    graph = onnx.load(artifacts[name], load_external_data=False)
    assert {(o.domain, o.version) for o in graph.opset_import} == {("", 18)}
    assert graph.ir_version <= 9, "onnxruntime 1.17 reads no newer one"
    assert not any(node.metadata_props for node in graph.graph.node)
    assert not any(t.external_data for t in graph.graph.initializer)
    beside = {p.name for p in artifacts[name].parent.iterdir() if p.name.startswith(f"{name}.")}
    assert beside == {f"{name}.onnx", f"{name}.fingerprint.npz"}


def zero_points(path: Path, kind: str) -> list[NDArray[Any]]:
    """Zero points of the graph's QuantizeLinear or DequantizeLinear nodes."""
    graph = onnx.load(path).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    return [constants[n.input[2]] for n in graph.node if n.op_type == kind]


@pytest.mark.parametrize(
    ("target", "dtype"),
    [("x86", np.uint8), ("x86-vnni", np.uint8), ("arm", np.int8), ("tensorrt", np.int8)],
)
def test_activations_have_the_integers_of_the_target(
    target: str, dtype: type, artifacts: dict[str, Path]
) -> None:
    points = zero_points(artifacts[target], "QuantizeLinear")
    assert len(points) > 3
    assert {p.dtype for p in points} == {np.dtype(dtype)}


def test_tensorrt_gets_zero_points_of_zero_and_no_int32_bias(artifacts: dict[str, Path]) -> None:
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        for points in zero_points(artifacts["tensorrt"], kind):
            assert not np.any(points)
            assert points.dtype == np.int8
    assert any(p.dtype == np.int32 for p in zero_points(artifacts["arm"], "DequantizeLinear"))


def largest_weight(path: Path) -> int:
    graph = onnx.load(path).graph
    weights = [onnx.numpy_helper.to_array(t) for t in graph.initializer if len(t.dims) == 4]
    assert all(w.dtype == np.int8 for w in weights)
    return max(int(np.abs(w.astype(int)).max()) for w in weights)


def test_plain_x86_has_seven_bit_weights_and_vnni_has_eight(artifacts: dict[str, Path]) -> None:
    assert largest_weight(artifacts["x86"]) <= 64
    assert largest_weight(artifacts["x86-vnni"]) > 64


def test_weights_are_quantised_per_channel(artifacts: dict[str, Path]) -> None:
    graph = onnx.load(artifacts["arm"]).graph
    axes = [
        a.i
        for n in graph.node
        if n.op_type == "DequantizeLinear"
        for a in n.attribute
        if a.name == "axis"
    ]
    scales = {t.name: t.dims for t in graph.initializer}
    per_channel = [
        n for n in graph.node if n.op_type == "DequantizeLinear" and scales[n.input[1]] == [8]
    ]
    assert axes
    assert len(per_channel) >= 2


@pytest.mark.parametrize("target", TARGETS)
def test_int8_stays_close_to_torch_on_clean_and_adversarial_images(
    target: str, model: nn.Module, tmp_path: Path
) -> None:
    out = tmp_path / "a.onnx"
    parities = export_artifact(model, CARD, plan(model, target), out, force=False).parities
    assert [p.images for p in parities] == ["clean", "adversarial"]
    assert all(p.samples == 200 for p in parities)
    assert min(p.agreement for p in parities) > 0.9
    assert max(p.largest_difference for p in parities) > 0


def test_an_int8_artefact_is_smaller(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.LazyLinear(4))
    wide(torch.rand(1, 3, 8, 8))
    sizes = []
    for target in (None, "arm"):
        out = tmp_path / f"{target}.onnx"
        export_artifact(wide.eval(), CARD, plan(wide, target), out, force=False)
        sizes.append(out.stat().st_size)
    assert sizes[1] < 0.4 * sizes[0]


def test_too_little_agreement_writes_nothing(model: nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    out.write_bytes(b"the artefact from before")
    with pytest.raises(InputError, match=r"expected 110\.00% or more, so nothing was written"):
        export_artifact(model, CARD, plan(model, "arm", least=1.1), out, force=True)
    assert out.read_bytes() == b"the artefact from before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


class Misread(nn.Module):
    """A model that its exporter gets wrong: traced, it computes something else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return logits.flip(1) if torch.compiler.is_exporting() else logits


@pytest.mark.parametrize("how", [{"target": "arm"}, {"target": None, "fp16": True}])
def test_int8_and_fp16_are_made_only_of_an_fp32_graph_that_is_faithful(
    how: dict[str, Any], model: nn.Module, tmp_path: Path
) -> None:
    precision = "FP16" if "fp16" in how else "INT8"
    with pytest.raises(InputError, match=f"the FP32 graph that {precision} is made from agrees"):
        export_artifact(Misread(model), CARD, plan(model, **how), tmp_path / "a.onnx", force=False)
    assert list(tmp_path.iterdir()) == []


def test_fp16_reads_and_gives_float32_and_says_so_on_its_card(
    model: nn.Module, tmp_path: Path
) -> None:
    out = tmp_path / "a.onnx"
    exported = export_artifact(model, CARD, plan(model, None, 0.999, fp16=True), out, force=False)
    for parity in exported.parities:
        assert parity.agreement > 0.999
        assert 0 < parity.largest_difference < 0.1
    with OrtBackend(out) as backend:
        assert backend.input.dtype == "float32"
        assert backend.card is not None
        assert backend.card.precision == "fp16"
        assert backend.card.recipe["fp16_keeps_float32"] == []
    kinds = {t.data_type for t in onnx.load(out).graph.initializer if len(t.dims) == 4}
    assert onnx.TensorProto.FLOAT16 in kinds


@pytest.mark.parametrize("how", [{}, {"fp16": True}, {"target": "x86"}, {"target": "arm"}])
def test_a_graph_of_uint8_images_bound_to_a_batch_is_checked_and_benched(
    how: dict[str, Any], model: nn.Module, tmp_path: Path
) -> None:
    out = tmp_path / "a.onnx"
    wanted = plan(model, how.pop("target", None), 0.9, input="uint8", batch_size=7, **how)
    parities = export_artifact(model, CARD, wanted, out, force=False).parities
    # 200 images leave a last batch of 4.
    assert [p.samples for p in parities] == [200, 200]
    described = read_onnx(out)
    (images,), (logits,) = described.inputs, described.outputs
    assert (images.type, images.shape) == ("tensor(uint8)", [7, 8, 8, 3])
    assert logits.shape == [7, 4]
    assert described.metadata["input_range"].startswith("0..255 (uint8, NHWC)")
    options = BenchOptions(settle_seconds=0, warmup_runs=0, min_runs=1, min_seconds=0, threads=1)
    report = run(out, [], options)
    assert report.latency.batch_size == 7
    assert report.fingerprint is not None
    assert report.fingerprint.largest_difference == 0
    # What an attack sees: images between the levels, and a last batch that is not full.
    some = wanted.check_images["clean"][:10]
    with OrtBackend(out) as backend, torch.no_grad():
        came = Deployed(backend, None, 4)(some + 0.001).argmax(1)
        assert (came == model(levels_of(some + 0.001).float() / 255).argmax(1)).sum() >= 9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": "arm", "fp16": True}, "--int8 and --fp16: an artefact has one precision"),
        ({"target": None, "input": "uint16"}, "--input uint16: expected float32 or uint8"),
        ({"target": None, "batch_size": 0}, "--batch 0: expected 1 or more"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(
    changes: dict[str, Any], sentence: str, model: nn.Module
) -> None:
    with pytest.raises(InputError, match=sentence):
        plan(model, **changes)


def test_an_agreement_that_is_no_number_is_refused(model: nn.Module) -> None:
    with pytest.raises(InputError, match="--min-agreement nan: expected a fraction from 0 to 1"):
        replace(plan(model, target=None), least_agreement=float("nan"))


def test_classes_that_torch_holds_for_equal_within_the_resolution_are_the_same(
    model: nn.Module, artifacts: dict[str, Path]
) -> None:
    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = model(x)
            top = logits.amax(1, keepdim=True)
            # Every class but the best comes to lie a hundredth of the best above it.
            return torch.where(logits == top, top, top + 0.01 * top.abs())

    images = {"clean": torch.rand(30, 3, 8, 8)}
    labels = torch.zeros(30, dtype=torch.int64)
    for resolution, agreement in ((0.0, 0.0), (0.009, 0.0), (0.011, 1.0)):
        (parity,) = compare(Shifted(), artifacts["fp32"], images, labels, resolution)
        assert parity.agreement == agreement


def test_an_existing_artefact_is_not_overwritten(model: nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    out.write_bytes(b"old")
    with pytest.raises(InputError, match="--force"):
        export_artifact(model, CARD, plan(model, None), out, force=False)
    assert out.read_bytes() == b"old"


def test_an_unknown_target_is_refused(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--target riscv: expected auto or one of x86, "):
        export_artifact(model, CARD, plan(model, "riscv"), tmp_path / "a.onnx", force=False)
    assert list(tmp_path.iterdir()) == []


def test_parity_sees_a_model_that_differs(model: nn.Module, artifacts: dict[str, Path]) -> None:
    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = model(x) + torch.tensor([100.0, 0, 0, 0])
            return logits

    images = torch.rand(30, 3, 8, 8)
    with torch.no_grad():
        labels = model(images).argmax(1)
    (parity,) = compare(Shifted(), artifacts["fp32"], {"clean": images}, labels)
    assert parity.largest_difference == pytest.approx(100, abs=0.01)
    assert parity.agreement == float((labels == 0).float().mean())
    assert parity.artifact_accuracy == 1
    with pytest.raises(InputError, match="agrees with the torch model on"):
        require_agreement([parity], 0.999, "the artefact", "look again")


def test_agreement_at_the_limit_passes() -> None:
    parity = Parity(
        images="clean",
        samples=10,
        largest_difference=0.0,
        agreement=0.9,
        torch_accuracy=1.0,
        artifact_accuracy=1.0,
    )
    require_agreement([parity], 0.9, "the artefact", "look again")


def test_calibration_ranges_come_from_the_images_given(model: nn.Module, tmp_path: Path) -> None:
    narrow = plan(model, "arm")
    assert narrow.int8 is not None
    assert narrow.int8.calibration is not None
    dark = replace(narrow, int8=replace(narrow.int8, calibration=narrow.int8.calibration * 0.1))
    scales = []
    for name, one in (("bright", narrow), ("dark", dark)):
        export_artifact(model, CARD, one, tmp_path / f"{name}.onnx", force=False)
        graph = onnx.load(tmp_path / f"{name}.onnx").graph
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        image, stem, *_ = [n for n in graph.node if n.op_type == "QuantizeLinear"]
        assert constants[image.input[1]] == np.float32(1 / 255)
        scales.append(float(constants[stem.input[1]]))
    # After the image, whose own levels are its grid whatever was seen, comes the stem with ReLU6.
    assert scales[1] < 0.9 * scales[0]


def test_the_runtime_needs_no_ardx_to_run_the_file(artifacts: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(str(artifacts["arm"]))
    (logits,) = session.run(None, {"images": np.random.rand(2, 3, 8, 8).astype(np.float32)})
    assert logits.shape == (2, 4)


class Rows(nn.Module):
    """Batch normalisations of (B, C, L) and (B, C), which nothing folds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first = nn.Conv2d(3, 8, 3), nn.BatchNorm1d(8)
        self.middle, self.second = nn.Linear(8, 16), nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(torch.relu(self.conv(x)).flatten(2)).mean(2)
        logits: torch.Tensor = self.head(self.second(torch.relu(self.middle(x))))
        return logits


@pytest.mark.parametrize(
    "how", [{"target": None}, {"target": None, "fp16": True}, *({"target": t} for t in TARGETS)]
)
def test_a_batch_normalisation_of_no_picture_is_exported(
    how: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    rows = Rows()
    for layer in (rows.first, rows.second):
        layer.running_mean = torch.randn(layer.num_features) / 4
        layer.running_var = torch.rand(layer.num_features) + 0.5
        nn.init.uniform_(layer.weight, 0.5, 2)
    rows.eval()
    out = tmp_path / "a.onnx"
    found = export_artifact(rows, CARD, plan(rows, **how), out, force=False)
    with torch.no_grad():
        spread = float(np.ptp(rows(torch.rand(64, 3, 8, 8)).numpy()))
    assert all(each.largest_difference < 0.05 * spread for each in found.parities)
    images = torch.rand(4, 3, 8, 8)
    with OrtBackend(out) as backend, torch.no_grad():
        read = read_network(out, Ends(input=backend.input, output="logits"))
        expected = backend.infer(images.numpy())
        assert np.abs(read(images).numpy() - expected).max() < 0.02 * spread


def test_logits_that_depend_on_the_batch_are_refused(tmp_path: Path) -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    batch = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), head)
    with pytest.raises(InputError, match=r"normalisation 1 takes .*track_running_stats=True"):
        export_artifact(batch.eval(), CARD, plan(batch, None), tmp_path / "a.onnx", force=False)
    assert list(tmp_path.iterdir()) == []
