"""A network of the user's own through the chain: adopted, judged, quantised, taught from."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ard.cli import app
from ard.data.splits import Dataset, as_float
from ard.models.architectures import build_model
from ard.models.weight_files import card_inside, load_model

from ..conftest import SmallModels
from .typed import RUNNER, ardx, sentence

MODULE = """
import torch
from torch import nn
from torch.nn import functional as F

class Scaled(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x):
        return x * self.scale

def build(classes):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), Scaled(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, classes),
    )
"""
VIEWED = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.other = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.utils.weight_norm(nn.Linear(8 * 4 * 4, classes))

    def forward(self, x):
        return self.head(self.norm(self.other(self.conv(x).relu())).view(-1, 8 * 4 * 4))

def build(classes):
    return Net(classes)
"""
ARCH = "own_digits:build"
MEAN, STD = 0.3, 0.35
HEAD = "9"


@dataclass(frozen=True)
class Own:
    """A working folder with a module and weights that another training loop left."""

    folder: Path
    accuracy: float

    @property
    def weights(self) -> Path:
        return self.folder / "best.pt"


@pytest.fixture(scope="module")
def own(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_digits.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        network, accuracy = _trained(digits)
        state = {f"module.{name}": each for name, each in network.state_dict().items()}
        torch.save({"epoch": 9, "state_dict": state, "optimizer": {"lr": 0.1}}, "best.pt")
        yield Own(folder, accuracy)
    sys.modules.pop("own_digits", None)


def _trained(digits: Dataset) -> tuple[nn.Module, float]:
    """A plain loop with a normalisation outside of the network, as people have it."""
    torch.manual_seed(0)
    network = build_model(ARCH, 1, 10, torch.zeros(1), torch.ones(1)).network
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    images, labels = (as_float(digits.train.images) - MEAN) / STD, digits.train.labels
    for _ in range(8):
        for part in torch.split(torch.randperm(len(labels)), 64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[part]), labels[part]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()
    with torch.no_grad():
        logits = network((as_float(digits.test.images) - MEAN) / STD)
    return network, float((logits.argmax(1) == digits.test.labels).double().mean())


@pytest.fixture(scope="module")
def adopted(own: Own) -> Path:
    out = own.folder / "model.safetensors"
    asked = ("--arch", ARCH, "--dataset", "digits", "--mean", MEAN, "--std", STD)
    told = json.loads(ardx("adopt", own.weights, *asked, "--out", out, "--json"))
    assert told["clean_accuracy"] == pytest.approx(own.accuracy, abs=1e-9)
    assert told["doubt"] is None
    assert own.accuracy > 0.9
    return out


def test_an_adopted_network_goes_through_the_chain(adopted: Path, own: Own) -> None:
    quick = ("--epsilon", "0.1", "--limit", "60")
    told = json.loads(ardx("evaluate", adopted, "--attacks", "clean,pgd3", *quick, "--json"))
    assert told["accuracy"]["clean"] > 0.85
    ardx("attack", adopted, "--attack", "pgd3", *quick, "--out", own.folder / "set")
    ardx("export", adopted, "--int8", "--out", own.folder / "int8.onnx")
    parent = ("--parent", adopted)
    told = json.loads(
        ardx("evaluate", own.folder / "int8.onnx", *parent, "--attacks", "pgd3", *quick, "--json")
    )
    assert told["accuracy"]["clean"] > 0.8


def test_an_adopted_network_teaches_and_is_a_start(adopted: Path, own: Own) -> None:
    quick = ("--epsilon", "0.1", "--inner-steps", "1", "--epochs", "1")
    student, out = ("--student", "resnet8:4", "--dataset", "digits"), own.folder / "student"
    ardx("distill", "--teacher", adopted, *student, *quick, "--out", out)
    again = own.folder / "again"
    rate = ("--learning-rate", "0.01")
    told = json.loads(
        ardx(
            "distill",
            "--init",
            adopted,
            "--teacher",
            adopted,
            *quick,
            *rate,
            "--out",
            again,
            "--json",
        )
    )
    assert told["validation"]["clean_accuracy"] > 0.8
    _, card = load_model(again / "student.safetensors")
    assert card.architecture == ARCH
    assert card.recipe["source_sha256"] == load_model(adopted)[1].recipe["source_sha256"]


def test_weights_to_start_from_keep_what_they_learnt(own: Own) -> None:
    quick = ("--epsilon", "0.05", "--inner-steps", "1", "--epochs", "1", "--dataset", "digits")
    start = ("--pretrained", own.weights, "--mean", MEAN, "--std", STD, "--arch", ARCH)
    out = own.folder / "taught"
    told = json.loads(ardx("teach", *start, *quick, "--out", out, "--json"))
    assert told["validation"]["clean_accuracy"] > 0.85
    model, card = load_model(out / "teacher.safetensors")
    assert float(model.get_buffer("normalise.mean").flatten()) == pytest.approx(MEAN)
    assert card.recipe["learning_rate"] == 0.01
    assert card.recipe["start_sha256"]


def test_a_published_file_is_measured_as_it_would_teach(own: Own) -> None:
    asked = ("teachers", own.weights, "--measure", "--dataset", "digits")
    said = ("--teacher-arch", ARCH, "--teacher-mean", MEAN, "--teacher-std", STD)
    told = json.loads(ardx(*asked, *said, "--limit", 20, "--json"))
    assert told["clean_accuracy"] > 0.85
    assert "give --teacher-arch" in sentence(*asked)
    told = sentence(*asked, *said, "--name", "other")
    assert told.startswith("error: --name other: says what FILE is, and --teacher-arch")
    told = sentence("teachers", own.weights, *said)
    assert told.startswith(f"error: --teacher-arch {ARCH}: is of --measure")


def test_weights_under_a_name_that_nobody_knows_are_not_written(own: Own) -> None:
    out = own.folder / "mine.pt"
    told = sentence("adopt", own.weights, "--arch", ARCH, "--dataset", "digits", "--out", out)
    assert f"--out {out}: expected a file name that ends in .safetensors" in told
    assert not out.exists()


def test_int8_training_starts_from_weights_of_ours_alone(
    own: Own, small_models: SmallModels
) -> None:
    recipe = own.folder / "qat.toml"
    recipe.write_text('qat = "arm"\n', encoding="utf-8")
    start = ("--pretrained", own.weights, "--mean", MEAN, "--std", STD, "--student", ARCH)
    teacher = ("--teacher", small_models.teacher.weights, "--dataset", "digits")
    out = own.folder / "int8"
    told = sentence("distill", *teacher, *start, "--config", recipe, "--out", out)
    assert "--qat: fine-tunes for arm what ardx has trained or adopted" in told
    assert "ardx adopt" in told
    assert not (out / "student.safetensors").exists()


def test_another_head_is_made_anew_and_said(own: Own) -> None:
    other = own.folder / "seven.pt"
    state = torch.load(own.weights, weights_only=True)["state_dict"]
    state |= {f"module.{HEAD}.weight": torch.ones(7, 128), f"module.{HEAD}.bias": torch.ones(7)}
    torch.save({"net": state}, other)
    quick = ("--inner-steps", "1", "--epochs", "1", "--dataset", "digits", "--method", "natural")
    start = ("--pretrained", other, "--mean", MEAN, "--std", STD, "--arch", ARCH)
    result = RUNNER.invoke(app, [str(a) for a in ("teach", *start, *quick, "--out", other.stem)])
    assert result.exit_code == 0, result.output
    assert "its head (9.bias, 9.weight) is another, of 7 outputs, and 9.bias" in result.stderr
    told = sentence(
        "adopt", other, "--arch", ARCH, "--dataset", "digits", "--out", own.folder / "x.safetensors"
    )
    assert "9.weight has shape (7, 128), expected (10, 128)" in told


def test_weights_under_another_normalisation_are_doubted_and_it_is_found(
    own: Own, digits: Dataset
) -> None:
    asked = ("--arch", ARCH, "--dataset", "digits", "--mean", 50, "--std", 0.001)
    out = own.folder / "doubted.safetensors"
    told = json.loads(ardx("adopt", own.weights, *asked, "--out", out, "--json"))
    assert told["clean_accuracy"] < 0.19
    found = re.search(r"with --mean (\S+) --std (\S+) it is right on (\S+) %", told["doubt"])
    assert found
    again = (*asked[:4], "--mean", found[1], "--std", found[2], "--force")
    told = json.loads(ardx("adopt", own.weights, *again, "--out", out, "--json"))
    assert told["clean_accuracy"] == pytest.approx(float(found[3]) / 100, abs=0.001)
    assert told["doubt"] is None
    torch.save(
        {
            n: torch.zeros_like(t)
            for n, t in load_model(out)[0].state_dict().items()
            if n.startswith("network.")
        },
        own.folder / "zero.pt",
    )
    # Ours hold their normalisation, beside which another is refused, so that none is advised.
    wrong = own.folder / "wrong.safetensors"
    ardx("adopt", own.weights, *asked, "--out", wrong)
    again_ours = ("adopt", wrong, *asked[:4], "--out", own.folder / "again.safetensors")
    result = RUNNER.invoke(app, [str(a) for a in (*again_ours, "--json")])
    assert "--mean" not in result.stderr + str(json.loads(result.stdout)["doubt"])
    assert "is it the order of the classes" in json.loads(result.stdout)["doubt"]
    zero = ("adopt", own.folder / "zero.pt", *again, "--out", out, "--json")
    assert "the order of the classes" in json.loads(ardx(*zero))["doubt"]


def test_a_source_that_changed_is_not_imported_until_it_is_adopted(adopted: Path, own: Own) -> None:
    module = own.folder / "own_digits.py"
    try:
        module.write_text(MODULE.replace("nn.SiLU()", "nn.ReLU()"))
        told = sentence("evaluate", adopted, "--attacks", "clean")
        assert "another source of own_digits:build" in told
        assert "ardx adopt" in told
        renewed = own.folder / "renewed.safetensors"
        ardx("adopt", adopted, "--arch", ARCH, "--dataset", "digits", "--out", renewed)
        before, after = card_inside(adopted), card_inside(renewed)
        assert before is not None
        assert after is not None
        assert after.recipe["source_sha256"] != before.recipe["source_sha256"]
        load_model(renewed)
        module.rename(own.folder / "away.py")
        told = sentence("evaluate", renewed, "--attacks", "clean")
        assert "there is no module own_digits in the working folder" in told
    finally:
        (own.folder / "away.py").unlink(missing_ok=True)
        module.write_text(MODULE)


TIED = """
from torch import nn

def build(classes):
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    layers[2].weight = layers[1].weight
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
"""


def test_tied_weights_are_kept_and_tied_again(own: Own) -> None:
    (own.folder / "own_tied.py").write_text(TIED)
    network = build_model("own_tied:build", 1, 10, torch.zeros(1), torch.ones(1)).network
    torch.save(network.state_dict(), "tied.pt")
    asked = ("--arch", "own_tied:build", "--dataset", "digits", "--out", "tied.safetensors")
    ardx("adopt", "tied.pt", *asked)
    found = load_model(Path("tied.safetensors"))[0].get_submodule("network")
    assert found.get_parameter("1.weight") is found.get_parameter("2.weight")
    state = network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in found.state_dict().items())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_flattens_by_view_is_trained_judged_and_teaches(own: Own) -> None:
    (own.folder / "own_viewed.py").write_text(VIEWED)
    quick = ("--dataset", "digits", "--inner-steps", "1", "--epochs", "1", "--epsilon", "0.1")
    ardx("teach", *quick, "--arch", "own_viewed:build", "--out", "viewed")
    weights = own.folder / "viewed" / "teacher.safetensors"
    few = ("--epsilon", "0.1", "--limit", "20")
    told = json.loads(ardx("evaluate", weights, "--attacks", "pgd2", *few, "--json"))
    assert told["accuracy"]["clean"] > 0.5
    ardx("attack", weights, "--attack", "pgd2", *few, "--out", "viewed_set")
    ardx("distill", *quick, "--teacher", weights, "--student", "resnet8:4", "--out", "of_viewed")
