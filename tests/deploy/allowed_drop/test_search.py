"""The search for the fewest layers in float, on makers whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from deploy.allowed_drop.search import fewest, latencies_ms, search
from deploy.allowed_drop.terms import (
    CHOSEN,
    FP32,
    PLAIN,
    AllowedDrop,
    Drop,
    DropError,
    Judged,
    Part,
)
from deploy.allowed_drop.tradeoff import as_json, draw, notes, report_rows, strain_rows, trial_rows
from deploy.lowering.layers import Layer
from deploy.onnx_export.export import finish
from edge_bench.core.spec import ModelCard

N = 40
CARD = ModelCard(architecture="test", dataset="noise", classes=2, input_shape=(1, 1, 1))
LAYERS = [Layer(name=name, nodes=(name,)) for name in "abcdef"]


def write(path: Path, error: float) -> None:
    """A classifier whose logits are (0, pixel + error): an artefact that is wrong by `error`."""
    constants = {
        "shape": np.array([-1, 1]),
        "row": np.array([[0, 1]], dtype=np.float32),
        "shift": np.array([0, error], dtype=np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "row"], ["scores"]),
        helper.make_node("Add", ["scores", "shift"], ["logits"]),
    ]
    sizes: dict[str, list[str | int | None]] = {"images": ["n", 1, 1, 1], "logits": ["n", 2]}
    (x, y) = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        for name, size in sizes.items()
    )
    graph = helper.make_graph(
        nodes, "g", [x], [y], [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, path)
    finish(path, CARD)


@dataclass
class Planted:
    """A maker whose artefacts' error is a known function of the layers that are not in float."""

    error: Callable[[set[str]], float]
    layers: list[Layer] = field(default_factory=lambda: list(LAYERS))

    def make(self, path: Path, in_float: Collection[Layer] = ()) -> None:
        names = {layer.name for layer in self.layers} - {layer.name for layer in in_float}
        write(path, self.error(names))


def half(judged: list[Path] | None = None) -> Part:
    """Pixels from 0 to 1, of class 1; image i is robust unless an error of more than it came."""
    pixels = (np.arange(N) * 6 + 5).astype(np.uint8)

    def judge(path: Path) -> Judged:
        if judged is not None:
            judged.append(path)
        model = onnx.load(path)
        (shift,) = (t for t in model.graph.initializer if t.name == "shift")
        error = float(numpy_helper.to_array(shift)[1])
        right = pixels / 255 + error > 0
        return Judged(clean=np.ones(N, dtype=np.bool_), robust=right)

    return Part(
        adversarial=pixels.reshape(N, 1, 1, 1), labels=np.ones(N, dtype=np.int64), judge=judge
    )


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    write(tmp_path / "fp32.onnx", 0)
    return tmp_path / "fp32.onnx"


def budget(max_drop: float, most: int | None = None) -> AllowedDrop:
    return AllowedDrop(max_drop=max_drop, max_float_layers=most, deciding=half(), reporting=half())


def additive(**errors: float) -> Planted:
    return Planted(lambda names: -sum(errors.get(name, 0.001) for name in names))


@pytest.mark.parametrize("most", [0, 1, 2, 3, 7, 8, 9, 30])
def test_fewest_is_the_least_that_holds(most: int) -> None:
    for least in range(1, most + 3):
        asked: list[int] = []

        def holds(count: int, least: int = least, asked: list[int] = asked) -> bool:
            asked.append(count)
            return count >= least

        assert fewest(holds, most) == (least if least <= most else None)
        assert all(1 <= count <= most for count in asked)
        assert len(asked) == len(set(asked)) <= 2 * max(most, 1).bit_length() + 1


def test_a_budget_that_holds_keeps_no_layer_and_ranks_none(fp32: Path, tmp_path: Path) -> None:
    outcome = search(fp32, additive(), budget(0.05), tmp_path)
    assert outcome.chosen == 0
    assert outcome.in_float == ()
    assert len(outcome.trials) == 1
    assert outcome.strains == ()


def test_the_most_sensitive_layers_are_kept_and_no_more(fp32: Path, tmp_path: Path) -> None:
    maker = additive(b=0.3, d=0.2, f=0.1)
    outcome = search(fp32, maker, budget(0.12), tmp_path)
    # An image of 40 breaks for every 6/255: in float b leaves 0.303, 13 of them, b and d 0.103, 4.
    assert [layer.name for layer in outcome.in_float] == ["b", "d"]
    assert [strain.layer.name for strain in outcome.strains][:3] == ["b", "d", "f"]
    assert outcome.strains[0].margin_shift == pytest.approx(0.3, abs=1e-3)
    # b alone, then both, and last whether d alone would do.
    tried = ["".join(layer.name for layer in trial.in_float) for trial in outcome.trials]
    assert tried == ["", "b", "d", "bd"]
    drops = [trial.drop.value for trial in outcome.trials]
    assert drops[0] > drops[2] > drops[1] > 0.12 >= drops[3]
    assert outcome.reported_drop(CHOSEN).value == drops[3]
    assert outcome.recipe()["float_layers"] == ["b", "d"]


def test_a_fault_that_two_layers_share_is_found(fp32: Path, tmp_path: Path) -> None:
    # An activation between c and d that either of them rounds: to leave one out mends nothing.
    maker = Planted(lambda names: -0.9 if names & {"c", "d"} else -0.001)
    outcome = search(fp32, maker, budget(0.0), tmp_path)
    assert {layer.name for layer in outcome.in_float} == {"c", "d"}


def test_a_layer_whose_strain_another_one_cancels_is_given_up_again(
    fp32: Path, tmp_path: Path
) -> None:
    # b strains more than d by itself, but in company only d counts.
    def error(names: set[str]) -> float:
        if names == {"b"}:
            return -0.5
        return -0.4 if "d" in names else 0.0

    outcome = search(fp32, Planted(error), budget(0.0), tmp_path)
    assert [layer.name for layer in outcome.in_float] == ["d"]


def test_no_smaller_choice_of_layers_would_do(fp32: Path, tmp_path: Path) -> None:
    errors = dict(zip("abcdef", (0.02, 0.15, 0.01, 0.3, 0.05, 0.08), strict=True))
    outcome = search(fp32, additive(**errors), budget(0.3), tmp_path)
    kept = len(outcome.in_float)
    reference = half().judge(fp32).robust
    path = tmp_path / "other.onnx"
    for fewer in combinations(LAYERS, kept - 1):
        additive(**errors).make(path, fewer)
        assert Drop.between(reference, half().judge(path).robust).value > 0.3


@pytest.mark.parametrize(
    ("most", "allowed"), [(None, "all but one"), (2, "--max-float-layers 2"), (0, "layers 0")]
)
def test_a_budget_that_cannot_be_met_is_an_error_that_exits_1(
    most: int | None, allowed: str, fp32: Path, tmp_path: Path
) -> None:
    maker = Planted(lambda names: -0.5 if names else 0)
    with pytest.raises(DropError, match="so nothing was written") as caught:
        search(fp32, maker, budget(0.01, most), tmp_path)
    assert allowed in str(caught.value)
    assert caught.value.exit_code == 1
    outcome = caught.value.outcome
    assert outcome.chosen is None
    assert outcome.reported == {}
    assert max(len(trial.in_float) for trial in outcome.trials) == (5 if most is None else most)
    assert as_json(outcome)["met"] is False
    assert "chosen" not in str(trial_rows(outcome))


def test_the_images_that_decide_are_not_asked_again_for_the_report(
    fp32: Path, tmp_path: Path
) -> None:
    decided: list[Path] = []
    reported: list[Path] = []
    halves = AllowedDrop(
        max_drop=0.12, max_float_layers=None, deciding=half(decided), reporting=half(reported)
    )
    outcome = search(fp32, additive(b=0.3, d=0.2), halves, tmp_path)
    assert outcome.chosen is not None
    assert reported == [fp32, outcome.trials[0].path, outcome.trials[outcome.chosen].path]
    assert len(decided) == len(set(decided)) == 1 + len(outcome.trials)
    assert list(outcome.reported) == [FP32, PLAIN, CHOSEN]


def test_a_drop_on_the_other_half_over_the_budget_is_said(fp32: Path, tmp_path: Path) -> None:
    def harsh(path: Path) -> Judged:
        robust = np.zeros(N, dtype=np.bool_) if "trial" in path.name else np.ones(N, dtype=np.bool_)
        return Judged(clean=robust, robust=robust)

    other = half()
    halves = AllowedDrop(
        max_drop=0.1,
        max_float_layers=None,
        deciding=half(),
        reporting=Part(adversarial=other.adversarial, labels=other.labels, judge=harsh),
    )
    outcome = search(fp32, additive(), halves, tmp_path)
    assert "did not decide the loss is 100.0" in notes(outcome)[-1]
    assert len(notes(search(fp32, additive(), budget(0.1), tmp_path))) == 1


def test_tables_values_and_pictures_say_the_same(fp32: Path, tmp_path: Path) -> None:
    outcome = search(fp32, additive(b=0.3, d=0.2, f=0.1), budget(0.12), tmp_path)
    rows, summary = trial_rows(outcome), as_json(outcome)
    assert [row[0] for row in rows] == ["all 6 (fp32)", "0", "1", "1", "2"]
    assert [row[1] for row in rows] == ["", "", "1", "2", "1 to 2"]
    assert [row[-1] for row in rows] == ["", "", "", "", "chosen"]
    assert [row[4] for row in strain_rows(outcome)][:3] == ["yes", "yes", ""]
    assert [row[0] for row in report_rows(outcome)] == [FP32, PLAIN, CHOSEN]
    assert summary["trials"][3]["float_layers"] == ["b", "d"]
    assert summary["reported"][CHOSEN]["drop"] == summary["trials"][3]["drop"]["drop"]
    for path, start in ((tmp_path / "p.svg", b"<?xml"), (tmp_path / "p.png", b"\x89PNG")):
        draw(outcome, path)
        assert path.read_bytes().startswith(start)
    first = (tmp_path / "p.svg").read_bytes()
    draw(outcome, tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_bytes() == first


def test_latencies_are_in_the_order_of_the_artefacts(tmp_path: Path) -> None:
    paths = []
    for size in (8, 512):
        weights = np.zeros((3, size), dtype=np.float32), np.zeros((size, size), dtype=np.float32)
        nodes = [helper.make_node("Reshape", ["images", "shape"], ["flat"])]
        names = ["flat", *(f"h{i}" for i in range(20)), "logits"]
        for index, (read, wrote) in enumerate(pairwise(names)):
            nodes.append(helper.make_node("MatMul", [read, "w1" if index else "w0"], [wrote]))
        x = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, 1, 1])
        y = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", size])
        values: dict[str, NDArray[np.generic]] = {"shape": np.array([-1, 3])}
        values |= {"w0": weights[0], "w1": weights[1]}
        constants = [numpy_helper.from_array(v, k) for k, v in values.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        paths.append(tmp_path / f"{size}.onnx")
        onnx.save(model, paths[-1])
    image = np.zeros((1, 3, 1, 1), dtype=np.uint8)
    small, large = latencies_ms(paths, image)
    assert 0 < small < large
    assert latencies_ms(paths[::-1], image)[0] > small
