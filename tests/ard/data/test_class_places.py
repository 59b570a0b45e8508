"""Data have the labels of the model's classes of the same name, or are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ard.data.datasets import load_dataset, matched
from ard.data.sources import open_images
from ard.data.splits import Dataset
from ard.learning.learn import learn
from ard.learning.start import load_start
from ard.learning.teacher import load_teacher
from ard.models.weight_files import load_model, save_model
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.pictures.tree import labels_of

from ..conftest import SmallModels, small_config

NUMBERS = tuple(map(str, range(12)))
LETTERS = tuple("abcdefghijkl")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def card(*names: str, dataset: str = "pets", classes: int = 0) -> ModelCard:
    return ModelCard(
        architecture="resnet8:4",
        dataset=dataset,
        classes=classes or len(names),
        class_names=names or None,
        input_shape=(3, 4, 4),
    )


PETS = card("cat", "dog", "owl")
OLD = card(classes=12)
OLD_FOLDER = card(classes=12, dataset="imagefolder:old")


@pytest.mark.parametrize(
    ("model", "there", "labels"),
    [
        (PETS, ("owl", "cat"), [2, 0]),
        (PETS, ("dog",), [1]),
        (PETS, ("0", "1", "2"), [0, 1, 2]),
        (card(*LETTERS), NUMBERS, list(range(12))),
        (card("2", "0", "1"), ("0", "1", "2"), [1, 2, 0]),
        # Without names there is only their number.
        (OLD, LETTERS, list(range(12))),
        (OLD, NUMBERS, list(range(12))),
        # Folders were sorted as text when this one was trained: 0, 1, 10, 11, 2.
        (OLD_FOLDER, NUMBERS, [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]),
        (OLD_FOLDER, LETTERS, list(range(12))),
    ],
)
def test_classes_are_found_by_name(
    model: ModelCard, there: tuple[str, ...], labels: list[int]
) -> None:
    assert labels_of(there, model, "--images p") == labels


def pictures(root: Path, *names: str) -> Path:
    """Two pictures a class, of a colour that tells the class by its name's first letter."""
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (4, 4), (ord(name[0]), number, 0)).save(root / name / f"{number}.png")
    return root


def test_pictures_have_the_labels_of_the_models_classes(tmp_path: Path) -> None:
    source = open_images(pictures(tmp_path / "p", "owl", "cat"), PETS)
    read = source.read(0, 4)
    shown = [chr(red) for red in read.images[:, 0, 0, 0].tolist()]
    assert shown == ["c", "c", "o", "o"]
    assert read.labels.tolist() == [0, 0, 2, 2]
    assert (source.classes, source.class_names) == (3, ("cat", "dog", "owl"))
    assert open_images(tmp_path / "p", PETS, limit=2).read(0, 2).labels.tolist() == [0, 2]
    # The same files under another order of the model's classes make another set.
    other = open_images(tmp_path / "p", card("owl", "dog", "cat"))
    assert other.read(0, 4).labels.tolist() == [2, 2, 0, 0]
    assert other.identity != source.identity


def test_numbered_pictures_have_the_labels_of_their_numbers_which_is_told(tmp_path: Path) -> None:
    root = pictures(tmp_path, *NUMBERS)
    for model in (card(*LETTERS), card(*NUMBERS), OLD):
        source = open_images(root, model)
        assert source.read(0, 24).labels.tolist() == [n for n in range(12) for _ in range(2)]
        told = "classes 0 to 11: taken as the model's in their order, 'a', 'b'"
        assert (told in source.skipped) == (model.class_names == LETTERS)


def test_real_datasets_know_their_classes(real_data: Path) -> None:
    names = load_dataset("cifar10", real_data).class_names
    assert names is not None
    assert (names[0], names[9]) == ("airplane", "truck")
    wnids = load_dataset("tiny-imagenet", real_data).class_names
    assert wnids is not None
    assert all(name.startswith("n0") for name in wnids)


def test_a_teacher_of_other_classes_is_refused(small_models: SmallModels, digits: Dataset) -> None:
    other = replace(digits, class_names=("ant", *WORDS[1:]))
    with pytest.raises(InputError, match=r"found 'ant', 'one'.*expected some of '0', '1'"):
        load_teacher(small_models.teacher.weights, None, other)
    few = replace(digits, classes=9, class_names=NUMBERS[:9])
    with pytest.raises(InputError, match=r"a teacher: classes of other names: '0'.*10 in all"):
        load_teacher(small_models.teacher.weights, None, few)


def as_teacher(models: SmallModels, path: Path, **changes: object) -> Path:
    """The teacher under another card."""
    model, card = load_model(models.teacher.weights)
    save_model(path, model, replace(card, **changes), False)  # type: ignore[arg-type]
    return path


def test_a_student_has_the_classes_of_its_teacher_in_their_order(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    turned = tuple(reversed(NUMBERS[:10]))
    path = as_teacher(small_models, tmp_path / "t.safetensors", class_names=turned)
    teacher = load_teacher(path, None, digits)
    config = small_config(
        method="ard", architecture="resnet8:4", epochs=1, inner_steps=1, train_fraction=0.1
    )
    student = learn(config, digits, teacher, tmp_path / "s" / "student.safetensors")
    card = load_model(student.weights)[1]
    assert card.class_names == turned
    placed = matched(student.weights, card, digits)
    assert torch.equal(placed.test.labels, 9 - digits.test.labels)
    assert student.config.data_sha256 == placed.train.sha256 != digits.train.sha256
    with pytest.raises(InputError, match=r"--clean-teacher: classes in another order.*--teacher"):
        learn(
            small_config(method="mtard", epochs=1),
            digits,
            teacher,
            tmp_path / "m" / "student.safetensors",
            clean_teacher=load_teacher(small_models.teacher.weights, None, digits),
        )
    # A published one has no names: its classes are in the dataset's order, or it teaches others.
    published = load_teacher(small_models.teacher.weights, None, digits)
    start = load_start(student.weights, config, digits)
    with pytest.raises(InputError, match=r"--teacher: classes in another order.*--init"):
        learn(
            config,
            digits,
            replace(published, card=None, is_ours=False),
            tmp_path / "i" / "student.safetensors",
            start=start,
        )
    assert not (tmp_path / "i").exists()


def test_a_teacher_of_folders_sorted_as_text_teaches_their_order(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    """Ten folders from 1 to 10, which were 1, 10, 2, ... before cards held names."""
    there = tuple(map(str, range(1, 11)))
    data = replace(digits, name="imagefolder:d", class_names=there)
    changes = {"class_names": None, "dataset": "imagefolder:d"}
    path = as_teacher(small_models, tmp_path / "t.safetensors", **changes)
    config = small_config(
        method="ard", architecture="resnet8:4", epochs=1, inner_steps=1, train_fraction=0.1
    )
    teacher = load_teacher(path, None, data)
    student = learn(config, data, teacher, tmp_path / "s" / "student.safetensors")
    assert load_model(student.weights)[1].class_names == tuple(sorted(there))
    placed = matched(path, load_model(path)[1], data)
    position = torch.tensor([sorted(there).index(name) for name in there])
    assert torch.equal(placed.test.labels, position[digits.test.labels])
    assert student.config.data_sha256 == placed.train.sha256


def test_numbered_data_take_the_words_of_a_teacher(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    path = as_teacher(small_models, tmp_path / "t.safetensors", class_names=WORDS)
    found = matched(path, load_model(path)[1], digits)
    assert found.class_names == WORDS
    assert torch.equal(found.test.labels, digits.test.labels)
    assert "taken as the model's in their order, 'zero', 'one'" in found.skipped
    with pytest.raises(InputError, match="none of the model's"):
        matched(path, load_model(path)[1], replace(digits, class_names=NUMBERS[1:11]))
