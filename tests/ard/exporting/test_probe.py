"""A probe computes what its artefact computes, and names the layer at which a runtime departs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn
from typer.testing import CliRunner

from ard.cli import app
from ard.data.splits import Dataset
from ard.exporting.export import export
from deploy.artifact import export_artifact
from deploy.plan import ExportPlan
from deploy.probing.reference import write_probe
from edge_bench.backends import open_backend
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.explain import told
from edge_bench.explain.departures import Difference, Explanation, differences, explain
from edge_bench.explain.probe_file import (
    OUTPUT,
    Reference,
    graph_path,
    read_reference,
    reference_path,
)
from edge_bench.files.store import read_json
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import stored_logits

from ..conftest import SmallModels

RUNNER = CliRunner()
Planted = Callable[[onnx.GraphProto], None]


@pytest.fixture(scope="module")
def artifacts(
    small_models: SmallModels, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`x86.onnx`, `fp32.onnx`, and `one.onnx`, which reads uint8 images one by one; all probed."""
    folder = tmp_path_factory.mktemp("probed")
    weights = small_models.student.weights
    kinds: dict[str, dict[str, Any]] = {
        "x86": {"int8_target": "x86"},
        "fp32": {},
        "one": {"input_type": "uint8", "batch_size": 1},
    }
    for name, options in kinds.items():
        export(weights, digits, folder / f"{name}.onnx", **options)
        write_probe(folder / f"{name}.onnx", force=False)
    return folder


@pytest.mark.parametrize("name", ["x86", "fp32", "one"])
def test_the_twin_computes_as_the_artefact_does(artifacts: Path, name: str) -> None:
    model = artifacts / f"{name}.onnx"
    found = explain(model, BenchOptions(threads=1))
    assert found.same_logits
    assert found.first is None
    assert all(layer.rms == layer.most == layer.moved == 0 for layer in found.layers)
    names = [layer.layer for layer in found.layers]
    assert names.index("network.conv1") < names.index("network.layer3.0.conv1") < len(names) - 1
    assert names[-1] == "logits"
    assert all(layer.quantised == (name == "x86") for layer in found.layers[:-1])
    # What is shown of the logits are the logits.
    reference = read_reference(reference_path(model))
    with open_backend("ort", model, 1) as backend:
        logits = stored_logits(backend, reference.images, 10)
    np.testing.assert_array_equal(reference.values[:, -10:], logits)


def shown_by(model: Path, planted: Planted, folder: Path) -> tuple[Reference, NDArray[np.float32]]:
    """What the probe of an artefact shows where its graph is another."""
    probe = onnx.load(graph_path(model))
    planted(probe.graph)
    other = folder / "other.onnx"
    onnx.save(probe, other)
    reference = read_reference(reference_path(model))
    with open_backend("ort", other, 1, output=OUTPUT) as backend:
        return reference, stored_logits(backend, reference.images, reference.values.shape[1])


def times(name: str, factor: float) -> Planted:
    """A constant of the graph times a factor."""

    def planted(graph: onnx.GraphProto) -> None:
        (tensor,) = (tensor for tensor in graph.initializer if tensor.name == name)
        scaled = (numpy_helper.to_array(tensor) * factor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(scaled, name))

    return planted


def turned(graph: onnx.GraphProto) -> None:
    """Rows and columns of the images are taken for one another."""
    image = graph.input[0].name
    for node in graph.node:
        node.input[:] = ["turned" if name == image else name for name in node.input]
    node = onnx.helper.make_node("Transpose", [image], ["turned"], perm=[0, 1, 3, 2])
    graph.node.insert(0, node)


@pytest.mark.parametrize("layer", ["network.layer1.0.conv2", "network.layer3.0.conv1"])
def test_a_wrong_scale_is_found_at_its_layer(artifacts: Path, layer: str, tmp_path: Path) -> None:
    planted = times(f"{layer}.weight_scale", 1.3)
    reference, values = shown_by(artifacts / "x86.onnx", planted, tmp_path)
    found = differences(reference, lambda _: values, "int8")
    first = next(each for each in found if each.departs)
    assert first.layer == layer
    before = found[: found.index(first)]
    assert all(each.most == 0 for each in before)
    # By an independent count, in steps of the tensor.
    (point,) = (each for each in reference.about.points if each.layer == layer)
    columns = slice(point.begin, point.begin + point.count)
    apart = np.rint((values - reference.values)[:, columns].astype(np.float64) / point.unit)
    assert first.rms == pytest.approx(float(np.sqrt(np.mean(apart**2))), rel=1e-3)
    assert first.moved == pytest.approx(float(np.mean(apart != 0)))


def test_a_wrong_weight_of_floats_is_found_at_its_layer(artifacts: Path, tmp_path: Path) -> None:
    planted = times("network.layer2.0.conv1.weight", 1.001)
    reference, values = shown_by(artifacts / "fp32.onnx", planted, tmp_path)
    found = differences(reference, lambda _: values, "fp32")
    assert next(each.layer for each in found if each.departs) == "network.layer2.0.conv1"


@pytest.mark.parametrize(("name", "first"), [("x86", "input"), ("fp32", "network.conv1")])
def test_a_wrong_layout_is_found_at_the_input(
    artifacts: Path, name: str, first: str, tmp_path: Path
) -> None:
    reference, values = shown_by(artifacts / f"{name}.onnx", turned, tmp_path)
    found = differences(reference, lambda _: values, "int8" if name == "x86" else name)
    at_first = next(each for each in found if each.departs)
    assert at_first is found[0]
    if first != "input":
        assert at_first.layer == first


def test_what_rounding_moves_is_no_departure(artifacts: Path, tmp_path: Path) -> None:
    reference = read_reference(reference_path(artifacts / "x86.onnx"))
    generator = np.random.default_rng(0)
    units = np.concatenate([np.full(p.count, p.unit) for p in reference.about.points])
    quantised = np.concatenate([np.full(p.count, p.quantised) for p in reference.about.points])
    # One value in fifty the other way, and two steps where two of them meet.
    moved = generator.choice(
        [0, 1, -1, 2], p=[0.98, 0.008, 0.008, 0.004], size=reference.values.shape
    )
    values = reference.values + (moved * units * quantised).astype(np.float32)
    assert not any(each.departs for each in differences(reference, lambda _: values, "int8"))


def test_the_commands_write_and_tell_it(
    small_models: SmallModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["export", str(small_models.student.weights), "--out", "a.onnx", "--probe"]
    done = RUNNER.invoke(app, words)
    assert done.exit_code == 0, done.output
    for name in ("a.onnx", "a.fingerprint.npz"):
        (tmp_path / name).unlink()
    refused = RUNNER.invoke(app, words)
    assert refused.exit_code == 2
    assert "a.probe.onnx exists already" in refused.stderr
    assert RUNNER.invoke(app, [*words, "--force"]).exit_code == 0
    bench = ["bench", "a.onnx", "--runs", "150", "--seconds", "0", "--warmup", "1"]
    bench += ["--settle-seconds", "0", "--explain", "--threads", "1"]
    ran = RUNNER.invoke(app, bench)
    assert ran.exit_code == 0, ran.output
    assert "no layer departs beyond what rounding explains" in " ".join(ran.stdout.split())
    written = read_json(tmp_path / "report.explain.json", Explanation, "an explanation")
    assert written.first is None
    assert len(written.layers) == len(told.rows(written))
    summary = json.loads(RUNNER.invoke(app, [*bench, "--force", "--json"]).stdout)
    assert summary["departs_first"] is None


def test_of_a_network_of_one_layer_the_logits_are_shown(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    card = ModelCard(architecture="own", dataset="noise", classes=10, input_shape=(1, 8, 8))
    plan = ExportPlan(
        parent_sha256="f" * 64,
        int8=None,
        check_images={"clean": torch.rand(16, 1, 8, 8)},
        check_labels=torch.zeros(16, dtype=torch.int64),
        least_agreement=0.0,
    )
    out = tmp_path / "a.onnx"
    export_artifact(model, card, plan, out, force=False)
    write_probe(out, force=False)
    found = explain(out, BenchOptions(threads=1))
    assert [layer.layer for layer in found.layers] == ["logits"]
    assert found.first is None


def test_a_probe_of_something_else_is_refused(artifacts: Path, tmp_path: Path) -> None:
    model = tmp_path / "x.onnx"
    model.write_bytes((artifacts / "x86.onnx").read_bytes())
    with pytest.raises(InputError, match=r"x\.probe\.npz: .*what a probe showed"):
        explain(model, BenchOptions())
    for path in (graph_path, reference_path):
        path(model).write_bytes(path(artifacts / "fp32.onnx").read_bytes())
    with pytest.raises(InputError, match=r"x\.onnx: sha256 .* copy all of what ardx export"):
        explain(model, BenchOptions())
    for path in (graph_path, reference_path):
        path(model).write_bytes(path(artifacts / "x86.onnx").read_bytes())
    whole = reference_path(model).read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        reference_path(model).write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"x\.probe\.npz: "):
            read_reference(reference_path(model))
    reference_path(model).write_bytes(whole)
    graph_path(model).write_bytes(b"other")
    with pytest.raises(InputError, match=r"x\.probe\.onnx: sha256 "):
        explain(model, BenchOptions())


@pytest.mark.parametrize(
    "words",
    [["--host", "board"], ["--backend", "all"], ["--backend", "trt"]],
    ids=["host", "every backend", "engine"],
)
def test_what_cannot_be_explained_here_is_refused(artifacts: Path, words: list[str]) -> None:
    refused = RUNNER.invoke(app, ["bench", str(artifacts / "x86.onnx"), "--explain", *words])
    assert refused.exit_code == 2
    assert "--explain with" in refused.stderr


def test_a_probe_that_is_not_there_is_told_before_anything_is_measured(
    artifacts: Path, tmp_path: Path
) -> None:
    model = tmp_path / "x.onnx"
    for path in (Path, reference_path):
        path(model).write_bytes(path(artifacts / "x86.onnx").read_bytes())
    asked = ["bench", str(model), "--explain", "--out", str(tmp_path / "report.json")]
    refused = RUNNER.invoke(app, asked)
    assert refused.exit_code == 2
    assert "x.probe.onnx: sha256 none" in refused.stderr
    assert not (tmp_path / "report.json").exists()


def test_the_sentence_names_the_first_layer(artifacts: Path) -> None:
    found = explain(artifacts / "x86.onnx", BenchOptions(threads=1))
    moved = [replace(each, rms=3.0, most=40.0, moved=0.5) for each in found.layers[3:]]
    told_of = replace(found, layers=(*found.layers[:3], *moved), same_logits=False)
    sentence = told.sentence(told_of)
    assert sentence.startswith(f"the first layer that departs is {moved[0].layer}: between ort")
    assert "3 steps (rms), 40 at most, in 50.0 % of its values" in sentence
    assert "its probe gave other logits" in sentence
    departs = [row[-1].endswith("departs") for row in told.rows(told_of)]
    assert departs == [False] * 3 + [True] * len(moved)
    assert [len(told.bar(beyond(share))) for share in (0.0, 1e-9, 1e-2, 1.0, 100.0)] == [
        0,
        1,
        2,
        6,
        18,
    ]


def beyond(share: float) -> Difference:
    """A layer that differs by this share of what rounding explains."""
    return Difference(
        layer="l",
        tensor="t",
        unit=1.0,
        quantised=True,
        rms=share / 4,
        most=share,
        moved=0.1,
        allowed_rms=0.25,
        allowed_most=2.5,
    )
