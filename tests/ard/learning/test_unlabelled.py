"""Pictures without labels are learnt from by the teacher's word, and none that judges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from ard.cli import app
from ard.data.picture_files import PictureFiles
from ard.data.splits import Dataset, Split, hold_out_validation, rest_of
from ard.data.unlabelled import NO_LABEL, joined, load_unlabelled
from ard.learning.learn import learn
from ard.learning.teacher import load_teacher
from ard.learning.train import training_data
from ard.learning.unlabelled import further_images, unlabelled_of
from ard.models.weight_files import load_model
from edge_bench.core.errors import InputError

from ..conftest import SmallModels, small_config

RUNNER = CliRunner()


class Brightness(torch.nn.Module):
    """Of class 1 the surer the brighter an image (B, C, H, W) is, and of class 0 the darker."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-20 * bright, 20 * bright], dim=1)


def flat(*levels: int) -> Tensor:
    """An image of 3x4x4 for each level."""
    return torch.stack([torch.full((3, 4, 4), level, dtype=torch.uint8) for level in levels])


def two_classes() -> Dataset:
    train = Split(flat(*range(40)), torch.arange(40) % 2)
    return Dataset(
        name="flat", train=train, test=train.at(torch.tensor([1])), classes=2, flips=True
    )


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_the_teacher_labels_what_it_is_sure_of(tmp_path: Path) -> None:
    levels = (250, 128, 10, 140, 1)
    images = flat(*levels).permute(0, 2, 3, 1).numpy()
    # Labels that lie beside the pictures are not read: they would say otherwise.
    file = npz(tmp_path / "made.npz", image=images, label=np.zeros(5))
    config = small_config(method="rslad", unlabelled=str(file), unlabelled_min_confidence=0.9)
    found = unlabelled_of(config, two_classes(), Brightness(), "cpu")
    assert found is not None
    # 10 and 1 are images of the training set; the test image alone is left out.
    assert (found.found, found.known, found.unsure) == (5, 1, 2)
    assert found.used.labels.tolist() == [1, 0]
    assert found.used.images[:, 0, 0, 0].tolist() == [250, 10]
    assert str(found) == (
        "unlabelled: 5 pictures, 2 of them used; 1 are test or held-out images; the teacher is "
        "unsure of 2"
    )


def test_training_data_are_both_and_validation_stays(digits: Dataset) -> None:
    more = digits.train.at(torch.arange(7))
    config = small_config(train_fraction=0.5)
    alone, held_out = training_data(config, digits)
    both, same = training_data(config, replace(digits, unlabelled=more))
    assert len(both) == len(alone) + 7
    assert torch.equal(both.images[len(alone) :], more.images)
    assert torch.equal(same.images, held_out.images)
    assert replace(digits, unlabelled=more).sha256 != digits.sha256 == digits.train.sha256


def test_the_rest_of_everything_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match=r"--unlabelled rest: .*give --train-fraction below 1"):
        small_config(method="ard", unlabelled="rest")


def test_the_rest_is_what_the_fraction_leaves(digits: Dataset, small_models: SmallModels) -> None:
    config = small_config(method="ard", train_fraction=0.3, unlabelled="rest")
    teacher = load_model(small_models.teacher.weights)[0]
    found = unlabelled_of(config, digits, teacher, "cpu")
    assert found is not None
    left = rest_of(hold_out_validation(digits.train)[0], 0.3, config.seed)
    assert torch.equal(found.used.images, left.images)
    assert found.known == found.unsure == 0
    with torch.no_grad():
        asked = teacher(left.images.float() / 255).argmax(dim=1)
    assert torch.equal(found.used.labels, asked)
    assert not torch.equal(asked, left.labels)


def test_a_folder_of_any_depth_is_read_grey_or_coloured(tmp_path: Path) -> None:
    for name, level in (("b/deep/x.png", 200), ("a.jpg", 7)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 5), (level, level, level)).save(tmp_path / name)
    for channels in (1, 3):
        found = load_unlabelled(tmp_path, (channels, 6, 6), "--unlabelled")
        assert found.image_shape == (channels, 6, 6)
        assert found.images.float().mean(dim=(1, 2, 3)).tolist() == pytest.approx([7, 200], abs=1)
        assert found.labels.tolist() == [NO_LABEL] * 2


def test_pictures_in_files_join_those_in_memory(tmp_path: Path) -> None:
    paths = []
    for level in (3, 4, 5):
        paths.append(tmp_path / f"{level}.png")
        Image.new("RGB", (4, 4), (level, level, level)).save(paths[-1])
    files = PictureFiles(
        paths=paths, root=tmp_path, preprocessing=None, size=(4, 4), index=torch.arange(3)
    )
    both = joined([Split(flat(1, 2), torch.tensor([0, 1])), Split(files, torch.tensor([1, 0, 1]))])
    assert both.streams
    chosen = both.at(torch.tensor([4, 0, 2, 1])).at(torch.tensor([0, 1, 2]))
    assert chosen.images[:, 0, 0, 0].tolist() == [5, 1, 3]
    assert chosen.labels.tolist() == [1, 0, 1]
    assert both.sha256 != both.at(torch.tensor([1, 0, 2, 3, 4])).sha256


def test_further_pictures_are_counted_unread(digits: Dataset, tmp_path: Path) -> None:
    left = rest_of(hold_out_validation(digits.train)[0], 0.3, 0)
    assert further_images("rest", digits, 0.3) == len(left)
    assert further_images(None, digits, 0.3) == 0
    file = npz(tmp_path / "x.npz", x=np.zeros((7, 8, 8), np.uint8), labels=np.zeros(7))
    assert further_images(str(file), digits, 1) == 7
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "torn.png").write_bytes(b"")
    assert further_images(str(tmp_path / "deep"), digits, 1) == 1
    # What is no place of pictures is refused where they are read.
    for nothing in (tmp_path / "gone", npz(tmp_path / "y.npz", labels=np.zeros(7))):
        assert further_images(str(nothing), digits, 1) == 0


def test_what_the_weights_learnt_from_can_be_taken_back(
    small_models: SmallModels, tmp_path: Path
) -> None:
    words = ["distill", "--teacher", str(small_models.teacher.weights), "--epochs", "1"]
    words += ["--inner-steps", "1", "--torch-device", "cpu", "--method", "rslad"]
    first = ["--dataset", "digits", "--student", "resnet8:4", "--train-fraction", "0.2"]
    told = RUNNER.invoke(
        app, [*words, *first, "--unlabelled", "rest", "--out", str(tmp_path / "a")]
    )
    assert told.exit_code == 0, told.output
    # Its card asks for what a fraction leaves, of which now there is none.
    words += ["--init", str(tmp_path / "a" / "student.safetensors"), "--out", str(tmp_path / "b")]
    refused = RUNNER.invoke(app, [*words, "--train-fraction", "1"])
    assert refused.exit_code == 2
    assert "or --unlabelled none" in refused.output
    told = RUNNER.invoke(app, [*words, "--train-fraction", "0.3", "--unlabelled", "none"])
    assert told.exit_code == 0, told.output
    assert "unlabelled: " not in told.stdout
    card = load_model(tmp_path / "b" / "student.safetensors")[1]
    assert card.recipe["unlabelled"] is None
    # The same again, by the recipe that the run has left.
    words[-1] = str(tmp_path / "c")
    told = RUNNER.invoke(app, [*words, "--config", str(tmp_path / "b" / "config.toml")])
    assert told.exit_code == 0, told.output
    one, two = (tmp_path / run / "student.safetensors" for run in "bc")
    assert one.read_bytes() == two.read_bytes()


def test_a_student_learns_from_both_and_its_card_says_so(
    small_models: SmallModels, tmp_path: Path
) -> None:
    words = ["distill", "--dataset", "digits", "--student", "resnet8:4", "--epochs", "1"]
    words += ["--inner-steps", "1", "--train-fraction", "0.2", "--torch-device", "cpu"]
    words += ["--teacher", str(small_models.teacher.weights), "--out", str(tmp_path / "s")]
    told = RUNNER.invoke(app, [*words, "--unlabelled", "rest"])
    assert told.exit_code == 0, told.output
    line = next(line for line in told.stdout.splitlines() if line.startswith("unlabelled: "))
    used = int(line.split(", ")[1].split()[0].replace(",", ""))
    card = load_model(tmp_path / "s" / "student.safetensors")[1]
    assert card.recipe["unlabelled_images"] == used
    assert card.recipe["unlabelled"] == "rest"
    metrics = json.loads((tmp_path / "s" / "metrics.jsonl").read_text().splitlines()[-1])
    assert metrics["epoch"] == 1


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"labels": np.zeros(3)}, "expected an array 'images', found labels"),
        ({"images": np.zeros((2, 4, 4, 3))}, "expected uint8 of shape .N, 4, 4, 3. in 'images'"),
        ({"images": np.zeros((2, 5, 4, 3), np.uint8)}, r"found uint8 of shape \(2, 5, 4, 3\)"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8)}, "'images' holds no picture"),
    ],
)
def test_an_array_that_is_no_pictures_is_refused(
    arrays: dict[str, np.ndarray], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        load_unlabelled(npz(tmp_path / "f.npz", **arrays), (3, 4, 4), "--unlabelled")


def test_what_cannot_be_learnt_from_is_refused(
    digits: Dataset, small_models: SmallModels, tmp_path: Path
) -> None:
    for path, expected in ((tmp_path, "no picture below"), (tmp_path / "x", "expected a folder")):
        with pytest.raises(InputError, match=f"--unlabelled .*{expected}"):
            load_unlabelled(path, (1, 8, 8), "--unlabelled")
    out = tmp_path / "out" / "teacher.safetensors"
    config = small_config(unlabelled="rest", train_fraction=0.5)
    with pytest.raises(InputError, match="pictures without labels need a teacher, and pgd_at has"):
        learn(config, digits, None, out)
    with pytest.raises(InputError, match="--unlabelled-min-confidence 2: expected a probability"):
        replace(config, unlabelled_min_confidence=2.0)
    images = np.full((3, 8, 8, 1), 100, np.uint8)
    file = str(npz(tmp_path / "grey.npz", images=images))
    teacher = load_teacher(small_models.teacher.weights, None, digits)
    config = small_config(method="ard", unlabelled=file, unlabelled_min_confidence=1.0)
    with pytest.raises(InputError, match=r"of 3 pictures none is left .* at most 0"):
        learn(config, digits, teacher, out)
