"""Splits, subsets, augmentation, and the loaders on real and on broken files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ard.data.datasets import load_dataset, matched
from ard.data.registry import DATASETS
from ard.data.splits import (
    Dataset,
    Split,
    augment,
    hold_out_validation,
    stratified_subset,
    take_fraction,
    take_limit,
    training_and_validation,
    training_images,
)
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard


def keys(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_digits_are_all_there_on_the_8_bit_grid(digits: Dataset) -> None:
    assert len(digits.train) + len(digits.test) == 1797
    assert digits.image_shape == (1, 8, 8)
    assert digits.train.images.dtype == torch.uint8
    assert int(digits.train.images.max()) == 255


def test_validation_and_training_share_no_image_and_lose_none(digits: Dataset) -> None:
    training, validation = hold_out_validation(digits.train)
    assert len(training) + len(validation) == len(digits.train)
    assert len(validation) == round(0.1 * len(digits.train))
    assert keys(training) | keys(validation) == keys(digits.train)
    assert not keys(validation) & keys(digits.test)


def test_validation_does_not_depend_on_a_seed(digits: Dataset) -> None:
    torch.manual_seed(1)
    first = hold_out_validation(digits.train)[1]
    torch.manual_seed(2)
    assert torch.equal(first.images, hold_out_validation(digits.train)[1].images)


def few_of_each(images: int, classes: int = 10) -> Dataset:
    """So many training images of each class."""
    pixels = torch.arange(images * classes, dtype=torch.uint8).view(-1, 1, 1, 1)
    train = Split(pixels, torch.arange(images * classes) % classes)
    return Dataset(name="few", train=train, test=train, classes=classes, flips=False)


@pytest.mark.parametrize("images", [3, 40])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_the_images_to_train_on_are_counted_as_they_are_drawn(images: int, fraction: float) -> None:
    # Of few, more than a tenth is held out: one of each class.
    few = few_of_each(images)
    drawn = take_fraction(training_and_validation(few)[0], fraction, seed=0)
    assert training_images(few, fraction) == len(drawn)
    apart = replace(few, validation=few.test)
    assert training_images(apart, fraction) == round(fraction * len(few.train))


def test_one_image_of_a_class_is_too_few_to_hold_one_out() -> None:
    with pytest.raises(InputError, match=r"--dataset: expected 2 .* came 1 of class 0; add some"):
        training_and_validation(few_of_each(1))


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_a_train_fraction_is_stratified_and_seeded(digits: Dataset, fraction: float) -> None:
    part = take_fraction(digits.train, fraction, seed=3)
    whole = torch.bincount(digits.train.labels) / len(digits.train)
    share = torch.bincount(part.labels) / len(part)
    assert float((whole - share).abs().max()) < 1 / len(part) + 1e-6
    assert len(part) == round(fraction * len(digits.train))
    assert torch.equal(part.images, take_fraction(digits.train, fraction, seed=3).images)
    assert not torch.equal(part.images, take_fraction(digits.train, fraction, seed=4).images)


def test_a_limit_is_stratified_and_beyond_the_end_takes_all(digits: Dataset) -> None:
    assert len(torch.unique(take_limit(digits.test, 20).labels)) == 10
    assert take_limit(digits.test, 10_000) is digits.test
    assert take_limit(digits.test, None) is digits.test


@pytest.mark.parametrize("limit", [3, 355])
def test_a_limit_that_cannot_be_stratified_is_drawn_at_random(digits: Dataset, limit: int) -> None:
    drawn = take_limit(digits.test, limit)
    assert len(keys(drawn)) == limit
    assert torch.equal(drawn.images, take_limit(digits.test, limit).images)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(digits: Dataset, limit: int) -> None:
    with pytest.raises(InputError, match="--limit"):
        take_limit(digits.test, limit)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, 0.001])
def test_a_fraction_outside_its_range_is_refused(digits: Dataset, fraction: float) -> None:
    with pytest.raises(InputError, match="--train-fraction"):
        take_fraction(digits.train, fraction, seed=0)


def test_augmentation_shifts_and_mirrors_each_image_by_itself() -> None:
    images = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).repeat(64, 2, 1, 1)
    images[:, 1] += 100
    found = augment(images, flips=True, generator=torch.Generator().manual_seed(0))
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    padded = torch.nn.functional.pad(images[0], (1, 1, 1, 1))
    candidates = {
        crop.numpy().tobytes()
        for dy in range(3)
        for dx in range(3)
        for crop in (
            padded[:, dy : dy + 8, dx : dx + 8].contiguous(),
            padded[:, dy : dy + 8, dx : dx + 8].flip(2).contiguous(),
        )
    }
    seen = {image.numpy().tobytes() for image in found}
    assert seen <= candidates
    assert len(seen) > 9


def test_each_side_of_a_picture_moves_by_an_eighth_of_itself() -> None:
    wide = torch.arange(1, 33, dtype=torch.uint8).repeat(64, 1, 8, 1)
    generator = torch.Generator().manual_seed(0)
    for images, axis in ((wide, 3), (wide.transpose(2, 3), 2)):
        found = augment(images.contiguous(), flips=False, generator=generator)
        along = found.select(5 - axis, 3).squeeze(1)
        shifts = {int(line[16]) - 17 for line in along}
        assert shifts == set(range(-4, 5))
        # Of the short side a line at most is black.
        black = (found == 0).all(axis).sum(2)
        assert int(black.max()) == 1


def test_augmentation_without_flips_never_mirrors() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(32, 1, 1, 1)
    found = augment(images, flips=False, generator=torch.Generator().manual_seed(0))
    inner = found[:, 0, 3, 2:6].int()
    assert bool((inner[:, 1:] > inner[:, :-1]).all())


def test_an_unknown_dataset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"--dataset mnist: .*digits.*imagefolder:PATH"):
        load_dataset("mnist", Path("nowhere"))


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_a_missing_dataset_names_the_folder_and_the_option(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data-dir") as caught:
        load_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_real_cifar10_loads_whole(real_data: Path) -> None:
    dataset = load_dataset("cifar10", real_data)
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (50_000, 10_000, 10)
    assert dataset.image_shape == (3, 32, 32)
    assert torch.bincount(dataset.test.labels).tolist() == [1000] * 10
    # The published channel means of the training set.
    means = dataset.train.images.float().mean(dim=(0, 2, 3)) / 255
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4, rtol=0)


def test_a_truncated_cifar10_is_refused(real_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cifar-10-batches-py"
    shutil.copytree(real_data / "cifar-10-batches-py", copy)
    file = copy / "data_batch_3"
    with file.open("r+b") as handle:
        handle.truncate(1000)
    with pytest.raises(InputError, match=r"cifar10: missing or damaged"):
        load_dataset("cifar10", tmp_path)


def test_real_cifar100_part_loads_as_an_image_folder(real_data: Path, tmp_path: Path) -> None:
    whole = real_data / "cifar-100-folder"
    for name in sorted(path.name for path in (whole / "test").iterdir())[::5]:
        for part in ("train", "test"):
            shutil.copytree(whole / part / name, tmp_path / part / name)
    dataset = load_dataset(f"imagefolder:{tmp_path}", Path("unused"))
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (2_000, 1_000, 20)
    assert dataset.image_shape == (3, 32, 32)


def test_real_tiny_imagenet_part_loads_from_its_official_layout(real_data: Path) -> None:
    dataset = load_dataset("tiny-imagenet", real_data)
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (2_000, 1_000, 20)
    assert dataset.image_shape == (3, 64, 64)
    assert torch.bincount(dataset.test.labels).tolist() == [50] * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_an_image_folder_keeps_its_pixels(folder: Path) -> None:
    dataset = load_dataset(f"imagefolder:{folder}", Path("unused"))
    first = np.asarray(Image.open(folder / "train" / "cat" / "0.png"))
    assert np.array_equal(dataset.train.images[0].permute(1, 2, 0).numpy(), first)
    assert dataset.train.labels.tolist() == [0] * 6 + [1] * 6


def test_an_image_folder_is_resized_where_asked(folder: Path) -> None:
    dataset = load_dataset(f"imagefolder:{folder}", Path("unused"), image_size=4)
    assert dataset.image_shape == (3, 4, 4)


def test_pictures_of_other_sizes_are_refused_with_the_option(folder: Path) -> None:
    Image.new("RGB", (5, 7)).save(folder / "train" / "dog" / "9.png")
    with pytest.raises(InputError, match=r"9\.png: 5x7 pixels.*--image-size"):
        load_dataset(f"imagefolder:{folder}", Path("unused"))


def test_a_broken_picture_is_named(folder: Path) -> None:
    (folder / "train" / "dog" / "3.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"3\.png: not a readable picture"):
        load_dataset(f"imagefolder:{folder}", Path("unused"))


def test_an_image_folder_is_named_without_its_path_and_found_in_the_data_dir(folder: Path) -> None:
    dataset = load_dataset(f"imagefolder:{folder}", Path("unused"))
    assert dataset.name == f"imagefolder:{folder.name}"
    again = load_dataset(dataset.name, folder.parent)
    assert again.train.sha256 == dataset.train.sha256 != dataset.test.sha256


def test_classes_that_differ_between_train_and_test_are_refused(folder: Path) -> None:
    shutil.move(folder / "test" / "dog", folder / "test" / "wolf")
    with pytest.raises(InputError, match="same classes"):
        load_dataset(f"imagefolder:{folder}", Path("unused"))


def test_an_empty_image_folder_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    with pytest.raises(InputError, match="pictures in class folders"):
        load_dataset(f"imagefolder:{folder}", Path("unused"))


def test_a_dataset_gets_the_labels_of_the_model_by_the_names_of_its_classes(folder: Path) -> None:
    dataset = load_dataset(f"imagefolder:{folder}", Path())
    assert dataset.class_names is not None
    names = ("other", *reversed(dataset.class_names))
    given = ModelCard(
        architecture="x", dataset="y", classes=len(names), class_names=names, input_shape=(3, 6, 6)
    )
    given = replace(given, input_shape=dataset.image_shape)
    found = matched(Path("weights"), given, dataset)
    assert (found.classes, found.class_names) == (len(names), names)
    for part, before in ((found.train, dataset.train), (found.test, dataset.test)):
        named = [names[label] for label in part.labels.tolist()]
        assert named == [dataset.class_names[label] for label in before.labels.tolist()]
    stranger = replace(given, class_names=("p", *names[1:-1], "q"))
    with pytest.raises(InputError, match="none of the model's"):
        matched(Path("weights"), stranger, dataset)


def test_a_folder_of_one_class_is_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder = tmp_path / part / "cat"
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "a.png")
    with pytest.raises(InputError, match=r"2 classes or more, found 1"):
        load_dataset(f"imagefolder:{tmp_path}", Path("unused"))


def test_every_class_of_thousands_is_held_out_once() -> None:
    classes = 1200
    labels = torch.arange(classes).repeat(3)
    training, validation = hold_out_validation(
        Split(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)
    )
    assert torch.equal(torch.unique(validation.labels), torch.arange(classes))
    assert torch.equal(torch.unique(training.labels), torch.arange(classes))
    assert len(validation) == classes


@pytest.mark.parametrize("seed", range(20))
def test_a_rare_class_is_on_both_sides_and_the_proportions_stay(seed: int) -> None:
    # A tenth of two images is none of them: proportions alone would leave the class out.
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 2 + [3] * 3 + [4] * 5)
    split = Split(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)
    for count in (100, 900):
        chosen = stratified_subset(split, count, seed, "--limit")
        counts = torch.bincount(labels[chosen], minlength=5)
        assert len(chosen) == len(torch.unique(chosen)) == count
        assert bool((counts >= 1).all())
        assert bool((torch.bincount(labels) - counts >= 1).all())
        assert abs(int(counts[0]) - 9 * count // 10) <= 3
        assert abs(int(counts[1]) - 9 * count // 100) <= 1
    again = stratified_subset(split, 100, seed, "--limit")
    assert torch.equal(again, stratified_subset(split, 100, seed, "--limit"))
