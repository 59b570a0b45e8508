"""Datasets that stay in their files: the same training and judgement, decoded batch by batch."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ard.attacks.registry import parse_attack
from ard.data import picture_files
from ard.data.datasets import load_dataset
from ard.data.picture_files import loaded_ahead
from ard.data.splits import Dataset
from ard.evaluation.accuracy import evaluate_all
from ard.learning.config import TrainConfig
from ard.learning.step import Teachers
from ard.learning.train import train
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.files.pictures.decode import read_picture


def write_folder(root: Path, train_count: int = 24, test_count: int = 6) -> Path:
    """Two classes of 8x8 pictures, one brighter than the other."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train_count), ("test", test_count)):
        for label, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(60 * label, 200 + 50 * label, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pictures")


@pytest.fixture
def streamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(picture_files, "IN_MEMORY_BYTES", 0)
    return load(folder)


def load(folder: Path, image_size: int | None = None) -> Dataset:
    return load_dataset(f"imagefolder:{folder}", Path("unused"), image_size=image_size)


def in_memory(dataset: Dataset) -> Dataset:
    return replace(dataset, train=dataset.train.loaded(), test=dataset.test.loaded())


def tiny_config() -> TrainConfig:
    return TrainConfig(
        dataset="pictures",
        architecture="resnet8:4",
        method="pgd_at",
        epsilon=8 / 255,
        step_size=4 / 255,
        inner_steps=1,
        epochs=2,
        batch_size=8,
    )


def test_training_from_files_gives_the_weights_of_training_from_memory(
    streamed: Dataset, tmp_path: Path
) -> None:
    assert streamed.train.streams
    weights = [
        train(tiny_config(), dataset, Teachers(), tmp_path / name)[0].state_dict()
        for name, dataset in (("files", streamed), ("memory", in_memory(streamed)))
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_only_the_pictures_of_a_batch_are_decoded(
    streamed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    real = read_picture

    def spied(path: Path, mode: str, image_size: Preprocessing | None) -> NDArray[np.uint8]:
        read.append(path)
        return real(path, mode, image_size)

    monkeypatch.setattr(picture_files, "read_picture", spied)
    assert isinstance(streamed.train.stored, picture_files.PictureFiles)
    streamed_paths = streamed.train.stored.paths
    some = streamed.train.at(torch.arange(10, 30)).at(torch.tensor([3, 19]))
    assert (len(some), some.image_shape, read) == (2, (3, 8, 8), [])
    batch = some.loaded()
    assert read == [streamed_paths[13], streamed_paths[29]]
    assert torch.equal(batch.images, in_memory(streamed).train.images[[13, 29]])
    assert batch.labels.tolist() == [0, 1]


def test_batches_come_in_order_and_only_a_few_are_made_ahead(
    streamed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_files, "MOST_THREADS", 2)
    lock, decoded = threading.Lock(), 0
    real = picture_files.PictureFiles.read

    def counted(self: picture_files.PictureFiles) -> torch.Tensor:
        nonlocal decoded
        with lock:
            decoded += 1
        return real(self)

    whole = in_memory(streamed).train
    monkeypatch.setattr(picture_files.PictureFiles, "read", counted)
    order = torch.split(torch.randperm(48, generator=torch.Generator().manual_seed(1)), 4)
    batches = loaded_ahead(streamed.train, order)
    first = next(batches)
    # Two threads: the batch that was asked for, two ahead, and never the other nine.
    assert decoded <= 3
    assert torch.equal(first.images, whole.images[order[0]])
    for index, batch in zip(order[1:], batches, strict=True):
        assert torch.equal(batch.images, whole.images[index])
        assert torch.equal(batch.labels, whole.labels[index])
    assert decoded == 12
    left = loaded_ahead(streamed.train, order)
    next(left)
    left.close()
    assert decoded <= 15
    assert not [t for t in threading.enumerate() if t.name.startswith("decoding")]


def test_judging_from_files_is_as_from_memory(streamed: Dataset, tmp_path: Path) -> None:
    model, *_ = train(tiny_config(), streamed, Teachers(), tmp_path / "run")
    spec = parse_attack("pgd2", epsilon=8 / 255)
    found = evaluate_all(model, streamed.test, [spec])
    expected = evaluate_all(model, in_memory(streamed).test, [spec])
    assert found.keys() == expected.keys()
    for name, mask in found.items():
        assert np.array_equal(mask, expected[name]), name


def test_the_digest_follows_the_files_and_not_where_they_lie(
    streamed: Dataset, folder: Path, tmp_path: Path
) -> None:
    digest = streamed.train.sha256
    shutil.copytree(folder, tmp_path / "copy")
    assert load(tmp_path / "copy").train.sha256 == digest
    assert load(folder, image_size=4).train.sha256 != digest
    assert streamed.train.at(torch.arange(5)).sha256 != digest
    (folder / "train" / "cat" / "3.png").unlink()
    assert load(folder).train.sha256 != digest
    with pytest.raises(InputError, match=r"3\.png: not a readable picture"):
        print(streamed.train.sha256)


def test_a_picture_of_another_size_is_found_before_the_training(
    streamed: Dataset, folder: Path
) -> None:
    Image.new("RGB", (5, 7)).save(folder / "train" / "dog" / "7.png")
    with pytest.raises(InputError, match=r"7\.png: 5x7 pixels.*--image-size"):
        load(folder)
    assert load(folder, image_size=4).train.at(torch.arange(48)).images.shape == (48, 3, 4, 4)


def test_a_picture_that_breaks_while_training_ends_it_with_its_name(
    streamed: Dataset, folder: Path, tmp_path: Path
) -> None:
    for broken in (folder / "train").rglob("*.png"):
        broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match=r"\.png: not a readable picture"):
        train(tiny_config(), streamed, Teachers(), tmp_path / "run")


def test_a_file_that_is_no_picture_is_named_at_the_start(streamed: Dataset, folder: Path) -> None:
    (folder / "train" / "dog" / "3.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"3\.png: not a readable picture"):
        load(folder)


def test_a_folder_that_fits_is_in_memory(folder: Path) -> None:
    assert not load(folder).train.streams
