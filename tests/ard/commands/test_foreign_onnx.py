"""ONNX files that ardx did not write: judged, attacked and quantised by their own gradients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from ard.attacks.registry import parse_attack
from ard.cli import app
from ard.data.splits import Dataset, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.parents import parent_of
from edge_bench.files.onnx_file import read_card
from edge_bench.files.sets import open_set
from edge_bench.files.store import sha256_file
from edge_bench.statistics.metrics import decode_mask

from .foreign import (
    KINDS,
    MEAN,
    STD,
    Array,
    Normalised,
    bare_loop,
    exported,
    fixed_batch,
    half,
    keras_style,
    old_exporter,
)
from .typed import RUNNER

EPSILON, LIMIT = 0.1, 80
DIGITS = ("--dataset", "digits")


def ardx(*arguments: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def sentence(stderr: str) -> str:
    """The one sentence that a command failed with."""
    assert "Traceback" not in stderr
    (found,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    return found


@pytest.fixture(scope="module")
def original(digits: Dataset) -> Normalised:
    torch.manual_seed(0)
    network = Normalised()
    images, labels = as_float(digits.train.images), digits.train.labels
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(6):
        for part in torch.split(torch.randperm(len(labels)), 64):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(network(images[part]), labels[part])
            torch.autograd.backward(loss)
            optimiser.step()
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_file_is_judged_and_attacked_as_its_original_is(
    kind: str, original: Normalised, digits: Dataset, tmp_path: Path
) -> None:
    foreign = KINDS[kind](original, tmp_path)
    split = take_limit(digits.test, LIMIT)
    spec = parse_attack("pgd10", epsilon=EPSILON)
    theirs = evaluate_attack(original, split, spec)

    code, _, stderr = ardx(
        *("evaluate", foreign.path, *DIGITS, *foreign.told, "--limit", LIMIT),
        *("--attacks", "pgd10", "--epsilon", EPSILON, "--each", "--no-doubts"),
        *("--out", tmp_path / "e.json"),
    )

    assert code == 0, stderr
    assert "gradients are read off its graph" in stderr
    assert ("logits are taken before it" in stderr) == (kind == "old_exporter")
    written = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert written["threat"] == "white-box"
    expected = bare_loop(foreign, as_float(split.images).numpy(), split.labels.numpy())
    assert np.array_equal(decode_mask(written["masks"]["clean"]), expected)
    kept = decode_mask(written["masks"]["pgd10"])
    assert 0.05 < kept.mean() <= theirs.mean() + 1 / LIMIT
    assert expected.mean() > 0.9


@pytest.mark.parametrize("kind", ["fixed_batch", "keras_style", "half"])
def test_a_set_is_crafted_on_it_and_replayed(
    kind: str, original: Normalised, digits: Dataset, tmp_path: Path
) -> None:
    foreign = KINDS[kind](original, tmp_path)

    code, _, stderr = ardx(
        *("attack", foreign.path, *DIGITS, *foreign.told, "--limit", LIMIT, "--attack", "pgd5"),
        *("--epsilon", "25/255", "--out", tmp_path / "set"),
    )

    assert code == 0, stderr
    crafted = open_set(tmp_path / "set")
    assert crafted.manifest.threat == "white-box"
    images: Array = np.array(crafted.images, np.float32) / np.float32(255)
    kept = bare_loop(foreign, images, np.array(crafted.labels))
    assert np.array_equal(kept, ~crafted.source_success)
    assert 0 < kept.mean() < 0.8


@pytest.mark.parametrize("threat", [(), ("--threat", "transfer", "--from")])
def test_no_images_between_levels_are_made_for_what_reads_levels(
    threat: tuple[str, ...], original: Normalised, tmp_path: Path
) -> None:
    """Bench could give them to no such model, whatever they were crafted on."""
    foreign = keras_style(original, tmp_path)
    source = [half(original, tmp_path).path] if threat else []

    code, _, stderr = ardx(
        *("attack", foreign.path, *DIGITS, "--limit", 8, "--attack", "pgd2", *threat, *source),
        *("--epsilon", "25/255", "--off-grid", "--out", tmp_path / "set"),
    )

    assert code == 2
    assert "keras.onnx reads uint8 levels" in sentence(stderr)
    assert sentence(stderr).startswith("error: --off-grid: ")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("kind", ["old_exporter", "fixed_batch", "keras_style"])
def test_it_is_quantised_into_an_artefact_of_ardx(
    kind: str, original: Normalised, digits: Dataset, tmp_path: Path
) -> None:
    foreign = KINDS[kind](original, tmp_path)
    out = tmp_path / "int8.onnx"

    code, _, stderr = ardx(
        *("export", foreign.path, *DIGITS, *foreign.told, "--int8", "--target", "arm"),
        *("--calibration-images", 64, "--out", out),
    )

    assert code == 0, stderr
    card = read_card(out)
    assert card is not None
    assert (card.precision, card.classes, card.input_shape) == ("int8", 10, (1, 8, 8))
    if kind == "keras_style":
        assert card.class_names == tuple(f"digit {i}" for i in range(10))
    # From there it is like any other: its dataset is on its card, and its parent is the file.
    names = ("--dataset", "digits") if kind == "keras_style" else ()
    code, stdout, stderr = ardx(
        *("evaluate", out, *names, "--parent", foreign.path, "--limit", LIMIT, "--json"),
        *("--attacks", "pgd5", "--epsilon", EPSILON, "--no-doubts"),
    )
    assert code == 0, stderr
    told = json.loads(stdout)
    assert told["threat"] == "bpda"
    assert told["surrogate_sha256"] == card.parent_sha256
    assert told["accuracy"]["clean"] > 0.9 > told["accuracy"]["pgd5"]


def test_sets_for_what_reads_levels_are_levels(original: Normalised, tmp_path: Path) -> None:
    foreign = keras_style(original, tmp_path)
    asked = ("evaluate", foreign.path, *DIGITS, "--limit", LIMIT, "--no-doubts", "--json")

    code, stdout, stderr = ardx(
        *(*asked, "--attacks", "pgd5,square20", "--epsilon", EPSILON, "--sets", tmp_path / "sets")
    )

    assert code == 0, stderr
    told = json.loads(stdout)
    kept = {name: open_set(tmp_path / "sets" / name) for name in ("pgd5", "square20")}
    assert all(found.manifest.on_grid for found in kept.values())
    assert kept["pgd5"].images.dtype == np.uint8
    right = ~kept["pgd5"].source_success
    assert right.mean() == told["accuracy"]["pgd5"]
    # Nobody read a gradient for Square, whatever the file would have told.
    threats = [kept[name].manifest.threat for name in ("pgd5", "square20")]
    assert threats == ["white-box", "black-box"]
    levels: Array = np.array(kept["pgd5"].images, np.float32) / np.float32(255)
    assert np.array_equal(bare_loop(foreign, levels, np.array(kept["pgd5"].labels)), right)

    # It goes on for a file without a card, whose dataset is that of the set.
    refresh = ("attack", "--refresh", tmp_path / "sets" / "pgd5", "--on", foreign.path)
    code, _, stderr = ardx(*refresh, "--attack", "pgd7", "--out", tmp_path / "again")
    assert code == 0, stderr
    again = open_set(tmp_path / "again").manifest
    assert (again.dataset, again.on_grid) == ("digits", True)

    between = tmp_path / "between"
    code, _, stderr = ardx(
        *("attack", old_exporter(original, tmp_path).path, *DIGITS, "--attack", "pgd2"),
        *("--epsilon", EPSILON, "--limit", 8, "--off-grid", "--out", between),
    )
    assert code == 0, stderr
    arrays = open_set(between)
    np.savez(tmp_path / "other.npz", images=arrays.images, clean=arrays.clean, labels=arrays.labels)
    for option, path in (("--refresh", between), ("--import", tmp_path / "other.npz")):
        budget = ("--epsilon", EPSILON) if option == "--import" else ()
        code, _, stderr = ardx(
            *("attack", foreign.path, option, path, *budget, "--out", tmp_path / "never")
        )
        assert code == 2
        assert f"error: {option} {path}: holds images between 8-bit levels" in sentence(stderr)
    assert not (tmp_path / "never").exists()


def test_what_is_made_of_its_artefact_normalises_once(
    original: Normalised, digits: Dataset, tmp_path: Path
) -> None:
    foreign = fixed_batch(original, tmp_path)
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    assert ardx("export", foreign.path, *DIGITS, *foreign.told, "--out", first)[0] == 0

    code, _, stderr = ardx("export", first, *foreign.told, "--out", second)
    assert code == 2
    assert f"error: --mean {MEAN}: is inside of the graph of {first}" in sentence(stderr)
    assert not second.exists()

    code, _, stderr = ardx(
        *("export", first, "--int8", "--max-robust-drop", 0.3, "--budget-images", 40),
        *("--calibration-images", 32, "--out", second),
    )
    assert code == 0, stderr
    one, two = read_card(first), read_card(second)
    assert one is not None
    assert two is not None
    assert (one.recipe["mean"], two.recipe.get("mean")) == ([MEAN], None)
    assert two.recipe["onnx_sha256"] == one.recipe["onnx_sha256"]
    # An older ardx left on the second card what belongs to the first; it makes no difference.
    old = replace(two, recipe=two.recipe | {"mean": [MEAN], "std": [STD], "onnx_output": "out"})
    images = as_float(digits.test.images[:32])
    for card in (two, old):
        assert torch.allclose(parent_of(first, card).module(images), original(images), atol=1e-4)

    third = tmp_path / "third.onnx"
    assert ardx("export", second, "--out", third)[0] == 2  # in integers
    assert ardx("export", first, "--fp16", "--out", third)[0] == 0
    found = read_card(third)
    assert found is not None
    assert "max_robust_drop" in two.recipe
    assert not {"mean", "std", "max_robust_drop", "float_layers"} & set(found.recipe)


def test_a_budget_is_searched_for_a_foreign_file(original: Normalised, tmp_path: Path) -> None:
    foreign = old_exporter(original, tmp_path)

    code, stdout, stderr = ardx(
        *("export", foreign.path, *DIGITS, "--int8", "--max-robust-drop", 0.2),
        *("--budget-images", 40, "--calibration-images", 32, "--out", tmp_path / "o.onnx"),
        "--json",
    )

    assert code == 0, stderr
    assert json.loads(stdout)["budget"]["max_robust_drop"] == 0.2


def test_an_artefact_of_ardx_has_gradients_without_its_parent(
    original: Normalised, tmp_path: Path
) -> None:
    out = tmp_path / "int8.onnx"
    foreign = old_exporter(original, tmp_path)
    asked = ("export", foreign.path, *DIGITS, "--int8", "--calibration-images", 64, "--out", out)
    assert ardx(*asked)[0] == 0

    code, stdout, stderr = ardx(
        *("evaluate", out, "--limit", LIMIT, "--json", "--no-doubts"),
        *("--attacks", "pgd5", "--epsilon", EPSILON),
    )

    assert code == 0, stderr
    told = json.loads(stdout)
    assert (told["threat"], told["surrogate_sha256"]) == ("bpda", told["sha256"])
    assert told["accuracy"]["clean"] > 0.9 > told["accuracy"]["pgd5"]


def test_what_is_not_covered_is_named_and_scores_remain(
    original: Normalised, tmp_path: Path
) -> None:
    path = exported(original, tmp_path / "odd.onnx", 13)
    model = onnx.load(path)
    # ONNX Runtime has it, and it is not read: an operator of another domain.
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    at = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Relu")
    node = model.graph.node[at]
    odd = helper.make_node("QuickGelu", node.input, node.output, domain="com.microsoft")
    model.graph.node[at].CopyFrom(odd)
    onnx.save(model, path)

    code, _, stderr = ardx("evaluate", path, *DIGITS, "--attacks", "pgd5")
    assert code == 2
    told = sentence(stderr)
    assert "--attacks pgd: needs gradients, but" in told
    assert "com.microsoft:QuickGelu (1)" in told
    assert "--threat transfer --from FILE" in told
    assert "scores alone (square" in told
    code, _, stderr = ardx("export", path, *DIGITS, "--int8", "--out", tmp_path / "o.onnx")
    assert code == 2
    assert "com.microsoft:QuickGelu (1)" in sentence(stderr)
    assert not (tmp_path / "o.onnx").exists()
    code, stdout, stderr = ardx(
        "evaluate", path, *DIGITS, "--attacks", "square10", "--limit", 10, "--json", "--no-doubts"
    )
    assert code == 0, stderr
    assert json.loads(stdout)["threat"] == "black-box"


def test_a_set_is_transferred_from_another_file_by_its_own_graph(
    original: Normalised, tmp_path: Path
) -> None:
    path = exported(original, tmp_path / "m.onnx", 13)
    other = exported(original, tmp_path / "other.onnx", 17)

    code, stdout, stderr = ardx(
        *("attack", path, *DIGITS, "--threat", "transfer", "--from", other, "--attack", "pgd5"),
        *("--epsilon", EPSILON, "--limit", 30, "--out", tmp_path / "set", "--json"),
    )

    assert code == 0, stderr
    told = json.loads(stdout)
    assert (told["threat"], told["source_sha256"]) == ("transfer", sha256_file(other))
    # The same weights in another opset: what fools the one fools the other.
    assert "m.onnx keeps" in stderr
    assert told["source_accuracy"] < 0.9


def test_a_graph_that_is_read_as_something_else_gives_no_gradients(
    original: Normalised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(original, tmp_path / "m.onnx", 13)
    from deploy.reading.operators import OPERATORS

    # The reader broken on purpose: a ReLU that lets a little through.
    monkeypatch.setitem(OPERATORS, "Relu", lambda _, x: torch.relu(x) + 0.01 * x)

    code, _, stderr = ardx("evaluate", path, *DIGITS, "--attacks", "pgd5", "--limit", 20)
    assert code == 2
    told = sentence(stderr)
    assert "cannot be read off its graph, since logits as torch and the runtime" in told
    assert "0.001 is allowed" in told
    code, _, stderr = ardx("export", path, *DIGITS, "--out", tmp_path / "o.onnx")
    assert code == 2
    assert "cannot be read into torch, since logits" in sentence(stderr)


def test_a_normalisation_that_is_missing_is_found_by_trying(
    original: Normalised, tmp_path: Path
) -> None:
    class OfLevels(nn.Module):
        """Takes 0..255, so that of images in 0..1 all are black to it."""

        def __init__(self) -> None:
            super().__init__()
            self.network = original

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.network(images / 255)
            return found

    path = exported(OfLevels().eval(), tmp_path / "levels.onnx", 13)

    code, _, stderr = ardx("evaluate", path, *DIGITS, "--attacks", "clean", "--limit", LIMIT)

    assert code == 0, stderr
    told = " ".join(stderr.split())
    assert "and chance is 10.0 %; with --mean 0 --std 0.00392157 it is right on 9" in told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((), "has no model card that names its dataset; give --dataset"),
        ((*DIGITS, "--mean", "0.5"), "--mean and --std: expected both"),
        ((*DIGITS, "--mean", "0.5,0.5", "--std", "1,1"), "expected one value or 1"),
        ((*DIGITS, "--parent", "m.onnx"), "has no model card that names the weights"),
    ],
)
def test_what_a_person_must_say_of_it_is_asked_for(
    asked: tuple[str, ...], said: str, original: Normalised, tmp_path: Path
) -> None:
    path = exported(original, tmp_path / "m.onnx", 13)

    code, _, stderr = ardx("evaluate", path, *asked, "--attacks", "pgd5")

    assert code == 2
    assert said in sentence(stderr)
