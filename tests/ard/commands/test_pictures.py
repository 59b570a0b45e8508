"""Pictures of any size through the chain: how they become images is said once, at training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from ard.cli import app
from ard.evaluation.record import EvaluationRecord
from ard.models.weight_files import load_model
from edge_bench.core.series import series_array
from edge_bench.core.spec import ModelCard, Report
from edge_bench.files.onnx_file import CARD_KEY
from edge_bench.files.sets import open_set
from edge_bench.files.store import from_json, read_json

from .typed import QUICK_BENCH, RUNNER, ardx, sentence

QUICK = ("--epochs", 1, "--inner-steps", 1, "--batch-size", 16, "--torch-device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 40, 20 and 5 pictures of many sizes, in one folder without parts."""
    root = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for label, (name, count) in enumerate({"ant": 40, "bee": 20, "moth": 5}.items()):
        (root / "insects" / name).mkdir(parents=True)
        for i in range(count):
            size = (int(draw.integers(20, 40)), int(draw.integers(20, 40)), 3)
            pixels = draw.integers(70 * label, 70 * label + 80, size, dtype=np.uint8)
            Image.fromarray(pixels).save(root / "insects" / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    data = ("--dataset", f"imagefolder:{folder / 'insects'}")
    size = ("--image-size", 16, "--resize", "crop:0.8")
    out = folder / "taught"
    ardx("teach", *data, *size, "--arch", "resnet8:8", *QUICK, "--out", out)
    return out / "teacher.safetensors"


def test_no_later_command_needs_the_size(folder: Path, weights: Path) -> None:
    card = load_model(weights)[1]
    assert card.preprocessing is not None
    assert (card.preprocessing.side, card.preprocessing.resize) == (16, "crop:0.8")
    data = ("--data-dir", folder)
    told = json.loads(ardx("evaluate", weights, *data, "--attacks", "fgsm", "--json"))
    assert told["samples"] == 8 + 4 + 1
    ardx("attack", weights, *data, "--attack", "fgsm", "--out", folder / "sets" / "fgsm")
    graph = folder / "insects.onnx"
    ardx("export", weights, *data, "--int8", "--calibration-images", 32, "--out", graph)
    kept = json.loads({p.key: p.value for p in onnx.load(graph).metadata_props}[CARD_KEY])
    made = from_json(kept, ModelCard, "here", "a card")
    assert made.preprocessing == card.preprocessing
    assert made.class_names == ("ant", "bee", "moth")
    bpda = ("--parent", weights, "--attack", "fgsm", "--out", folder / "bpda")
    ardx("attack", graph, *data, *bpda)
    # The same pictures, decoded in the same way.
    assert np.array_equal(open_set(folder / "bpda").clean, open_set(folder / "sets" / "fgsm").clean)
    pictures = ("--dataset", f"imagefolder:{folder / 'insects'}")
    told = json.loads(ardx("teachers", "--measure", weights, *pictures, "--json"))
    assert told["clean_accuracy"] == pytest.approx(card.recipe["validation"]["clean_accuracy"])
    own = ("--images", folder / "insects", "--limit", 5, "--attack", "fgsm")
    ardx("attack", weights, *own, "--out", folder / "own")
    assert open_set(folder / "own").manifest.image_shape == (3, 16, 16)
    report = folder / "report.json"
    ardx("bench", graph, "--sets", folder / "sets", "--out", report, *QUICK_BENCH)
    measured = read_json(report, Report, "a report").artifact.card
    assert measured is not None
    assert measured.preprocessing == card.preprocessing


def test_a_student_and_an_adopted_network_see_pictures_as_their_weights_did(
    folder: Path, weights: Path
) -> None:
    data = ("--dataset", f"imagefolder:{folder / 'insects'}")
    for name, given in {"init": ("--init", weights), "new": ("--student", "resnet8:4")}.items():
        out = folder / name
        ardx("distill", "--teacher", weights, *given, *data, *QUICK, "--out", out)
        card = load_model(out / "student.safetensors")[1]
        assert card.preprocessing == load_model(weights)[1].preprocessing
    adopted = folder / "adopted.safetensors"
    ardx("adopt", weights, "--arch", "resnet8:8", *data, "--out", adopted)
    assert load_model(adopted)[1].preprocessing == load_model(weights)[1].preprocessing
    # What is said wins, and does not stand beside a policy that nobody said.
    ardx(
        "adopt",
        weights,
        "--arch",
        "resnet8:8",
        *data,
        "--image-size",
        24,
        "--out",
        adopted,
        "--force",
    )
    assert str(load_model(adopted)[1].preprocessing) == "24x24 pixels, stretched"


def test_another_size_is_refused_and_another_policy_told(folder: Path, weights: Path) -> None:
    data = ("--data-dir", folder, "--attacks", "clean")
    told = sentence("evaluate", weights, *data, "--image-size", 24)
    assert "--image-size 24: the model reads 16x16 pixels; give that size, or leave it out" in told
    told = sentence("evaluate", weights, *data, "--resize", "squash")
    assert "--resize squash: expected stretch, pad, crop, or crop:SHARE" in told
    done = RUNNER.invoke(app, ["evaluate", str(weights), *map(str, data), "--resize", "pad"])
    told = " ".join(done.stderr.split())
    assert "trained on pictures of 16x16 pixels, cropped to the middle 80 %" in told


def test_a_policy_without_a_size_is_refused(folder: Path) -> None:
    data = ("--dataset", f"imagefolder:{folder / 'insects'}", "--resize", "crop")
    told = sentence("teach", *data, "--arch", "resnet8:4", "--out", folder / "none")
    assert "--resize crop: to which size? Give --image-size, too" in told


def test_settings_follow_from_the_pictures_and_the_worst_class_is_named(folder: Path) -> None:
    data = ("--dataset", f"imagefolder:{folder / 'insects'}", "--image-size", 64)
    asked = ("--arch", "resnet8:2", "--epochs", 1, "--torch-device", "cpu")
    out = folder / "chosen"
    told = json.loads(ardx("teach", *data, *asked, "--batch-size", 8, "--out", out, "--json"))
    chosen = {"epsilon": 4 / 255, "inner_steps": 1, "step_size": 4 / 255}
    assert told["chosen"] == pytest.approx(chosen | {"learning_rate": 0.1 * 8 / 128})
    recipe = load_model(out / "teacher.safetensors")[1].recipe
    assert {name: recipe[name] for name in chosen} == pytest.approx(chosen)
    assert (recipe["batch_size"], recipe["epochs"]) == (8, 1)
    assert recipe["validation"]["worst_clean_class"] in (0, 1, 2)
    said = ardx("teach", *data, *asked, "--epsilon", "2/255", "--out", folder / "said")
    words = " ".join(said.split())
    assert "images of 64x64: inner_steps 1, step_size 2/255, batch_size 32" in words
    assert "worst class there: clean" in words
    trained = ("--pretrained", out / "teacher.safetensors", "--method", "natural")
    once = ("--out", folder / "from-trained", "--json")
    told = json.loads(ardx("teach", *data, *asked, *trained, *once))
    assert told["chosen"]["learning_rate"] == 0.05


def test_the_class_that_fares_worst_is_in_every_summary(folder: Path, weights: Path) -> None:
    data = ("--data-dir", folder)
    out = folder / "judged.json"
    told = json.loads(ardx("evaluate", weights, *data, "--attacks", "fgsm", "--out", out, "--json"))
    shares = told["class_accuracy"]["worst case"]
    assert shares.keys() == {"ant", "bee", "moth"}
    assert told["worst_class"]["worst case"]["accuracy"] == min(shares.values())
    assert told["worst_class"]["clean"]["samples"] in (8, 4, 1)
    mean = (8 * shares["ant"] + 4 * shares["bee"] + shares["moth"]) / 13
    assert mean == pytest.approx(told["accuracy"]["worst case"])
    kept = read_json(out, EvaluationRecord, "an evaluation")
    assert kept.labels is not None
    assert series_array(kept.labels).tolist() == [0] * 8 + [1] * 4 + [2]
    assert "clean, worst class: " in ardx("evaluate", weights, *data, "--attacks", "clean")
    told = json.loads(
        ardx("attack", weights, *data, "--attack", "fgsm", "--out", folder / "third", "--json")
    )
    assert told["class_accuracy"]["source"] == shares
    graph = folder / "float.onnx"
    ardx("export", weights, *data, "--out", graph)
    asked = ("--sets", folder / "third", "--out", folder / "float.json", *QUICK_BENCH, "--json")
    told = json.loads(ardx("bench", graph, *asked))
    assert told["class_accuracy"]["worst_case"] == shares
    assert told["worst_class"]["worst_case"]["class"] == min(shares, key=lambda n: (shares[n], n))
