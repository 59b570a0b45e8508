"""Folders of pictures as people have them: parted by their owner, or here by the names."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ard.data.datasets import load_dataset, matched
from ard.data.folders import by_name
from ard.data.splits import Dataset, training_and_validation
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard


def write(folder: Path, count: int, level: int = 0) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (6, 6), (level, i, 0)).save(folder / f"{i:03}.png")


def tree(root: Path, **counts: int) -> Path:
    """`part/class` or `class`, with `__` for the slash, to how many pictures."""
    for level, (name, count) in enumerate(counts.items()):
        write(root.joinpath(*name.split("__")), count, level)
    return root


def load(root: Path) -> Dataset:
    return load_dataset(f"imagefolder:{root}", Path("unused"))


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("Train", "VAL"), ("training", "testing"), ("TRAIN", "valid")],
)
def test_parts_are_known_by_what_people_call_them(tmp_path: Path, train: str, test: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / train / name, 4)
        write(tmp_path / test / name, 2)
    found = load(tmp_path)
    assert (len(found.train), len(found.test), found.validation) == (8, 4, None)


def test_a_part_for_validation_chooses_the_model_and_is_not_the_test(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        **{
            "train__a": 20,
            "train__b": 20,
            "valid__a": 3,
            "valid__b": 2,
            "test__a": 5,
            "test__b": 4,
        },
    )
    found = load(root)
    assert (len(found.train), len(found.test)) == (40, 9)
    training, validation = training_and_validation(found)
    assert (len(training), len(validation)) == (40, 5)
    assert found.validation is not None
    assert torch.equal(validation.images, found.validation.images)
    # A model with the classes the other way round has its labels in every part.
    card = ModelCard(
        architecture="x",
        dataset=found.name,
        classes=2,
        class_names=("b", "a"),
        input_shape=found.image_shape,
    )
    turned = matched(Path("weights"), card, found)
    assert turned.validation is not None
    assert turned.validation.labels.tolist() == [1, 1, 1, 0, 0]
    # What chooses the weights is part of what a run is resumed on.
    shutil.rmtree(root / "valid" / "b")
    write(root / "valid" / "b", 1)
    assert load(root).sha256 != found.sha256


def test_one_folder_is_parted_by_class_and_says_so(tmp_path: Path) -> None:
    found = load(tree(tmp_path, ants=10, bees=50, wasps=2))
    assert torch.bincount(found.test.labels).tolist() == [2, 10, 1]
    assert torch.bincount(found.train.labels).tolist() == [8, 40, 1]
    assert found.class_names == ("ants", "bees", "wasps")
    assert "13 of its 62 pictures, a fifth of each of 3 classes, are the test" in found.skipped
    # No picture is on both sides: of a class, the second level tells them apart.
    levels = [{tuple(i[:2, 0, 0].tolist()) for i in s.images} for s in (found.train, found.test)]
    assert not levels[0] & levels[1]
    assert load(tmp_path).train.sha256 == found.train.sha256


def test_a_picture_more_moves_one_other_at_most(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(40)]
    drawn = by_name(paths, tmp_path, 8)
    for i in range(100, 140):
        more = by_name([*paths, tmp_path / f"{i}.jpg"], tmp_path, 8)
        assert len(drawn - more) <= 1
    # Where the folder lies does not matter, nor how its system writes an accent.
    composed, decomposed = tmp_path / "\u00e9.jpg", tmp_path / "e\u0301.jpg"
    for other in paths[:9]:
        assert (composed in by_name([composed, other], tmp_path, 1)) == (
            decomposed in by_name([decomposed, other], tmp_path, 1)
        )


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            {"train__a": 2, "train__b": 2},
            r"expected the folders train and test .*imagefolder:.*train",
        ),
        ({"test__a": 2, "val__a": 2}, "expected the folders train and test"),
        ({"pictures": 3}, "found 'pictures' alone; name the folder that holds them"),
        ({"a": 1, "b": 5}, "a: one picture cannot be in the training and in the test"),
        ({"train__a": 2, "training__a": 2, "test__a": 2}, "the same part by their names"),
    ],
)
def test_a_layout_that_cannot_be_used_is_told(
    tmp_path: Path, counts: dict[str, int], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        load(tree(tmp_path, **counts))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*nowhere; .* as --data-dir"):
        load(tmp_path / "nowhere")


def test_names_in_any_script_and_pictures_of_every_mode_and_size(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    modes = {"RGB": 3, "L": 1, "RGBA": 4, "CMYK": 4}
    for name in ("猫", "собака", "Vögel / no, \N{DIVISION SLASH}"[:5]):
        folder = tmp_path / name / "2024 年" / "more"
        folder.mkdir(parents=True)
        for i, (mode, channels) in enumerate(modes.items()):
            pixels = draw.integers(0, 256, (5 + i, 9 - i, channels), dtype=np.uint8)
            image = Image.fromarray(pixels.squeeze(), mode if mode != "L" else None)
            image.save(folder / f"снимок {i}.{'tif' if mode == 'CMYK' else 'PNG'}")
        Image.new("P", (3, 4)).save(folder / "p.png")
        Image.new("1", (4, 3)).save(folder / "bits.png")
    found = load_dataset(f"imagefolder:{tmp_path}", Path("unused"), image_size=8, resize="pad")
    assert found.image_shape == (3, 8, 8)
    assert (found.classes, len(found.train) + len(found.test)) == (3, 18)
    assert found.preprocessing is not None
    assert found.preprocessing.resize == "pad"


def test_accents_of_one_letter_or_of_two_are_in_one_order(tmp_path: Path) -> None:
    names = ("u", "\u00fcber", "v")  # As two characters it would come before v.
    draw = np.random.default_rng(0)
    for part, form in (("train", "NFC"), ("test", "NFD")):
        for name in names:
            folder = tmp_path / part / unicodedata.normalize(form, name)  # type: ignore[arg-type]
            folder.mkdir(parents=True)
            pixels = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "a.png")
    found = load_dataset(f"imagefolder:{tmp_path}", Path("unused"))
    assert found.class_names == ("u", "v", "\u00fcber")
    assert found.test.labels.tolist() == [0, 1, 2]
