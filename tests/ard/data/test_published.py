"""Datasets by name, in files of their official format made here.

torchvision holds SVHN and STL-10 against digests of the published files: these tests put the
digests of their own files in place of those, so that the check itself stays in force.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import STL10, SVHN

from ard.data.datasets import load_dataset
from ard.data.published_pictures import SIGNS
from edge_bench.core.errors import InputError

DRAW = np.random.default_rng(0)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """(H, W, C, N) pictures and labels 1 to 10, where 10 is the digit 0, as MATLAB keeps them."""
    pictures = {}
    known = {}
    for part, (url, name, _) in SVHN.split_list.items():
        if part == "extra":
            continue
        pictures[part] = DRAW.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
        labels = np.arange(20).reshape(-1, 1) % 10 + 1
        savemat(tmp_path / name, {"X": pictures[part], "y": labels.astype(np.uint8)})
        known[part] = [url, name, md5(tmp_path / name)]
    monkeypatch.setattr(SVHN, "split_list", known)
    return pictures


def test_svhn(tmp_path: Path, svhn: dict[str, np.ndarray]) -> None:
    found = load_dataset("svhn", tmp_path)
    for split, part in ((found.train, "train"), (found.test, "test")):
        assert np.array_equal(split.images.permute(2, 3, 1, 0).numpy(), svhn[part])
        assert split.labels.tolist() == [(i + 1) % 10 for i in range(20)]
    assert (found.classes, found.flips) == (10, False)


def test_notes_of_tiny_imagenet_that_are_not_text_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    for name in ("n01", "n02"):
        (root / "train" / name / "images").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / "train" / name / "images" / "0.png")
    (root / "val" / "images").mkdir(parents=True)
    notes = root / "val" / "val_annotations.txt"
    for content, told in (
        (b"0.png\tn01\n\xff\xfe\n", "expected text in UTF-8"),
        (b"0.png\t" + b"n" * 5000 + b"\n", r"line '0\.png.{0,90}' names no class"),
    ):
        notes.write_bytes(content)
        with pytest.raises(InputError, match=told):
            load_dataset("tiny-imagenet", tmp_path)


def test_an_edited_svhn_is_refused(tmp_path: Path, svhn: dict[str, np.ndarray]) -> None:
    file = tmp_path / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"svhn: missing or damaged .*train_32x32\.mat and test"):
        load_dataset("svhn", tmp_path)


def test_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pictures = {
        p: DRAW.integers(0, 256, (10, 3, 96, 96), dtype=np.uint8) for p in ("train", "test")
    }
    for part, images in pictures.items():
        # Their files hold columns before rows.
        images.transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        (1 + np.arange(10)[::-1]).astype(np.uint8).tofile(folder / f"{part}_y.bin")
    for part in ("train", "test"):
        names = [f"{part}_X.bin", f"{part}_y.bin"]
        listed = [[name, md5(folder / name)] for name in names]
        monkeypatch.setattr(STL10, f"{part}_list", listed)
    found = load_dataset("stl10", tmp_path)
    assert torch.equal(found.test.images, torch.from_numpy(pictures["test"]))
    assert found.train.labels.tolist() == list(range(10))[::-1]
    assert found.class_names is not None
    assert found.class_names[9] == "truck"


@pytest.fixture
def gtsrb(tmp_path: Path) -> Path:
    root = tmp_path / "gtsrb"
    test = root / "GTSRB" / "Final_Test" / "Images"
    test.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for label in range(43):
        folder = root / "GTSRB" / "Training" / f"{label:05}"
        folder.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (20 + i, 30), (label, 0, 0)).save(folder / f"{i:05}.ppm")
        (folder / f"GT-{label:05}.csv").write_text("Filename;Width\n")
        Image.new("RGB", (25, 25), (0, label, 0)).save(test / f"{42 - label:05}.ppm")
        rows.append(f"{42 - label:05}.ppm;25;25;0;0;25;25;{label}")
    (root / "GT-final_test.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_gtsrb_at_its_usual_size_and_at_another(gtsrb: Path) -> None:
    found = load_dataset("gtsrb", gtsrb)
    assert (found.image_shape, len(found.train), len(found.test)) == ((3, 32, 32), 86, 43)
    assert found.train.images[:, 0, 0, 0].tolist() == found.train.labels.tolist()
    assert found.test.images[:, 1, 0, 0].tolist() == found.test.labels.tolist()
    assert found.class_names == SIGNS
    assert not found.flips
    larger = load_dataset("gtsrb", gtsrb, image_size=48, resize="pad")
    assert larger.image_shape == (3, 48, 48)
    assert larger.preprocessing is not None
    assert (larger.preprocessing.side, larger.preprocessing.policy) == (48, "pad")


def test_a_gtsrb_without_its_table_is_told(gtsrb: Path) -> None:
    (gtsrb / "gtsrb" / "GT-final_test.csv").unlink()
    with pytest.raises(InputError, match=r"gtsrb: expected .*GT-final_test\.csv.*--data-dir"):
        load_dataset("gtsrb", gtsrb)


def test_there_is_a_name_for_each_of_the_43_signs() -> None:
    assert len(set(SIGNS)) == len(SIGNS) == 43
    assert (SIGNS[14], SIGNS[17], SIGNS[38], SIGNS[40]) == (
        *("stop", "no entry", "keep right", "roundabout"),
    )


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    root = tmp_path / "imagenet"
    names = {
        "n01440764": ("tench", "Tinca tinca"),
        "n02012849": ("crane",),
        "n03126707": ("crane",),
    }
    for level, wnid in enumerate(names):
        for part, count in (("train", 3), ("val", 2)):
            (root / part / wnid).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (320, 256), (80 * level, 0, 0))
                picture.save(root / part / wnid / f"{i}.JPEG", quality=95)
    torch.save((names, list(names)), root / "meta.bin")
    return tmp_path


def test_imagenet_is_cut_as_research_cuts_it(imagenet: Path) -> None:
    found = load_dataset("imagenet", imagenet)
    assert found.image_shape == (3, 224, 224)
    assert found.class_names == ("tench", "crane (n02012849)", "crane (n03126707)")
    assert (found.train.labels.tolist(), len(found.test)) == ([0] * 3 + [1] * 3 + [2] * 3, 6)
    assert found.preprocessing is not None
    assert found.preprocessing.resize == "crop:0.875"


def test_imagenet_is_neither_downloaded_nor_unpacked(imagenet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--download cannot fetch it; get its archives"):
        load_dataset("imagenet", imagenet, download=True)
    empty = tmp_path / "empty"
    (empty / "imagenet").mkdir(parents=True)
    (empty / "imagenet" / "ILSVRC2012_img_train.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"no folder train"):
        load_dataset("imagenet", empty)
    (imagenet / "imagenet" / "meta.bin").unlink()
    with pytest.raises(InputError, match=r"ILSVRC2012_devkit_t12\.tar\.gz or torchvision's meta"):
        load_dataset("imagenet", imagenet)


def test_arrays_have_their_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--image-size 64: applies to pictures, and the images of"):
        load_dataset("cifar10", tmp_path, image_size=64)
    with pytest.raises(InputError, match="--resize crop: applies to pictures"):
        load_dataset("digits", tmp_path, resize="crop")
