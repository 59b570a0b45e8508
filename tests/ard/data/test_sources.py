"""Clean images from folders: read a batch at a time, in a fixed order, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ard.data.sources import Source, SplitSource, open_images
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

from ..crafting.crafting_child import CLASSES, craft, split


def card(
    classes: int = 3,
    shape: tuple[int, int, int] = (3, 4, 5),
    names: tuple[str, ...] | None = None,
    dataset: str = "pets",
) -> ModelCard:
    return ModelCard(
        architecture="linear",
        dataset=dataset,
        classes=classes,
        class_names=names,
        input_shape=shape,
    )


def pixels(label: int, number: int, shape: tuple[int, ...] = (4, 5, 3)) -> np.ndarray:
    return np.random.default_rng([label, number]).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Classes b, c and a, made in this order, of 2, 3 and 1 pictures."""
    for label, (name, count) in enumerate((("a", 1), ("b", 2), ("c", 3))):
        (tmp_path / name).mkdir()
        for number in reversed(range(count)):
            Image.fromarray(pixels(label, number)).save(tmp_path / name / f"{number}.png")
        (tmp_path / name / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_come_in_the_order_of_torchvisions_image_folder(pictures: Path) -> None:
    from torchvision.datasets import ImageFolder

    (pictures / "b" / "more").mkdir()
    Image.fromarray(pixels(1, 7)).save(pictures / "b" / "more" / "x.PNG")
    theirs = ImageFolder(str(pictures))
    found = open_images(pictures, card()).read(0, 7)
    assert found.labels.tolist() == theirs.targets
    for image, (picture, _) in zip(found.images, theirs, strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture))


def test_batches_of_pictures_make_up_the_whole(pictures: Path) -> None:
    source = open_images(pictures, card())
    whole = source.read(0, len(source))
    parts = [source.read(begin, min(begin + 4, 6)) for begin in (0, 4)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
    assert (source.dataset, source.classes, source.shape) == ("pets", 3, (3, 4, 5))


def test_only_the_pictures_of_a_batch_are_decoded(pictures: Path) -> None:
    (pictures / "c" / "2.png").write_bytes(b"not a picture")
    source = open_images(pictures, card())
    assert len(source.read(0, 5)) == 5
    with pytest.raises(InputError, match=r"2\.png: not a readable picture"):
        source.read(5, 6)


def test_pictures_become_grey_for_a_model_of_one_channel(pictures: Path) -> None:
    found = open_images(pictures, card(shape=(1, 4, 5))).read(0, 1)
    grey = np.asarray(Image.fromarray(pixels(0, 0)).convert("L"))
    assert np.array_equal(found.images[0, 0].numpy(), grey)


def test_pictures_are_resized_where_it_is_asked_for(pictures: Path) -> None:
    square = card(shape=(3, 8, 8))
    with pytest.raises(InputError, match=r"5x4 pixels.*reads 8x8; give --image-size"):
        open_images(pictures, square).read(0, 1)
    assert open_images(pictures, square, image_size=8).read(0, 1).images.shape == (1, 3, 8, 8)
    with pytest.raises(InputError, match="--image-size 9: the model reads 8x8"):
        open_images(pictures, square, image_size=9)


def test_a_limit_draws_the_same_pictures_each_time(pictures: Path) -> None:
    drawn = open_images(pictures, card(), limit=4)
    assert len(drawn) == 4
    again = open_images(pictures, card(), limit=4)
    assert drawn.identity == again.identity != open_images(pictures, card()).identity
    assert torch.equal(drawn.read(0, 4).images, again.read(0, 4).images)
    assert torch.equal(drawn.read(2, 4).images, again.read(0, 4).images[2:])
    assert len(open_images(pictures, card(), limit=7)) == 6


def add(folder: Path) -> None:
    Image.fromarray(pixels(5, 5)).save(folder / "a" / "9.png")


def rename(folder: Path) -> None:
    (folder / "b" / "0.png").rename(folder / "b" / "5.png")


def overwrite(folder: Path) -> None:
    Image.fromarray(pixels(5, 5)).save(folder / "b" / "0.png")


@pytest.mark.parametrize("change", [add, rename, overwrite])
def test_the_identity_of_pictures_follows_their_files(
    pictures: Path, change: Callable[[Path], None]
) -> None:
    source = open_images(pictures, card())
    before = source.identity
    assert open_images(pictures, card()).identity == before
    change(pictures)
    assert open_images(pictures, card()).identity != before
    with pytest.raises(InputError, match="changed while they were read"):
        source.read(0, len(source))


def empty(folder: Path) -> None:
    for path in folder.glob("*/*.png"):
        path.unlink()


def one_more(folder: Path) -> None:
    (folder / "d").mkdir()
    Image.fromarray(pixels(5, 5)).save(folder / "d" / "0.png")


def deepen(folder: Path) -> None:
    deep = np.zeros((4, 5), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "a" / "0.png")


@pytest.mark.parametrize(
    ("spoil", "given", "named"),
    [
        (one_more, card(), "expected 3 folders.*found 4"),
        (lambda folder: None, card(classes=10), "expected 10 folders.*found 3"),
        (empty, card(), "a class without pictures"),
        (one_more, card(names=("a", "b", "c")), "class 'd' is none of the model's"),
        (deepen, card(), "more than 8 bits"),
        (lambda folder: None, card(shape=(3, 5, 4)), "5x4 pixels, but the model reads 4x5"),
        (lambda folder: None, card(shape=(2, 4, 5)), "reads 2 channels"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    pictures: Path, spoil: Callable[[Path], None], given: ModelCard, named: str
) -> None:
    spoil(pictures)
    with pytest.raises(InputError, match=named):
        open_images(pictures, given).read(0, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (card(), [0, 1, 1, 2, 2, 2]),
        (card(names=("c", "a", "b")), [1, 2, 2, 0, 0, 0]),
        (card(4, names=("z", "c", "b", "a")), [3, 2, 2, 1, 1, 1]),
    ],
)
def test_a_folder_is_the_class_of_its_name(
    pictures: Path, given: ModelCard, expected: list[int]
) -> None:
    source = open_images(pictures, given)
    assert source.read(0, 6).labels.tolist() == expected
    assert source.class_names == given.class_names
    assert source.classes == given.classes


@pytest.mark.parametrize(
    ("dataset", "expected"), [("cifar100", [0, 1, 2]), ("imagefolder:numbers", [0, 2, 1])]
)
def test_folders_that_are_numbers_mean_what_the_model_was_trained_on(
    tmp_path: Path, dataset: str, expected: list[int]
) -> None:
    # Names were not kept then, and folders of pictures were in the order of text.
    for name in ("1", "2", "10"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels(0, 0)).save(tmp_path / name / "a.png")
    source = open_images(tmp_path, card(dataset=dataset))
    assert source.read(0, 3).labels.tolist() == expected


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"--images .*{name}: expected a folder"):
        open_images(tmp_path / name, card())


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    data = split()
    np.save(tmp_path / "images.npy", data.images.numpy())
    np.save(tmp_path / "labels.npy", data.labels.numpy().astype(np.int32))
    return tmp_path


def open_arrays(folder: Path) -> Source:
    return open_images(folder, card(classes=CLASSES, shape=(3, 4, 4)))


def test_two_arrays_craft_the_set_of_the_same_images_in_memory(
    arrays: Path, tmp_path: Path
) -> None:
    from_files = craft(open_arrays(arrays), tmp_path / "s")
    in_memory = craft(SplitSource(split(), "pets", CLASSES), tmp_path / "t")
    assert from_files == in_memory


@pytest.mark.parametrize(
    ("name", "array", "named"),
    [
        ("images", np.zeros((70, 3, 4, 4), dtype=np.float32), "expected uint8 images"),
        ("images", np.zeros((70, 4, 4, 3), dtype=np.uint8), r"\(N, 3, 4, 4\)"),
        ("images", np.zeros((0, 3, 4, 4), dtype=np.uint8), "expected uint8 images"),
        ("images", np.asfortranarray(np.zeros((70, 3, 4, 4), dtype=np.uint8)), "Fortran"),
        ("labels", np.zeros(69, dtype=np.int64), r"integers of shape \(70,\)"),
        ("labels", np.zeros(70, dtype=np.float32), "expected integers"),
        ("labels", np.full(70, CLASSES), "expected labels from 0 to 3"),
        ("labels", np.full(70, -1), "expected labels from 0 to 3"),
        ("labels", np.array([object()] * 70), "not a numpy array file"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    arrays: Path, name: str, array: np.ndarray, named: str
) -> None:
    np.save(arrays / f"{name}.npy", array, allow_pickle=array.dtype.hasobject)
    with pytest.raises(InputError, match=named):
        open_arrays(arrays)


def test_torn_arrays_are_refused(arrays: Path) -> None:
    path = arrays / "images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a numpy array file"):
        open_arrays(arrays)
    np.save(path, split().images.numpy())
    (arrays / "labels.npy").unlink()
    with pytest.raises(InputError, match=r"labels\.npy: expected an array"):
        open_arrays(arrays)


@pytest.mark.parametrize("name", ["images", "labels"])
@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 3, 16",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "9" * 25 + ", 3, 4, 4)}",
        "{'descr': [('a', '<i4',)], 'fortran_order': False, 'shape': (6, 3, 4, 4)}",
        "{'descr': " + "(" * 3000 + ")" * 3000 + "}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (6L, 3L, \"\"\" }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 3, 4, 4)}",
    ],
)
def test_damaged_headers_are_refused_in_a_short_sentence(
    arrays: Path, name: str, header: str
) -> None:
    text = header.encode() + b"\n"
    start = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    (arrays / f"{name}.npy").write_bytes(start)
    with pytest.raises(InputError, match=rf"{name}\.npy: (not a numpy array|expected)") as caught:
        open_arrays(arrays)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("given", [{"limit": 4}, {"image_size": 4}, {"resize": "crop"}])
def test_arrays_are_attacked_as_they_lie(arrays: Path, given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="leave it out"):
        open_images(arrays, card(), **given)
