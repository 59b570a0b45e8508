"""Sets as other libraries leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ard.crafting.foreign import parse_import_keys
from ard.crafting.importing import import_set, imported_spec
from ard.data.splits import Split
from edge_bench.core.errors import InputError
from edge_bench.files.sets import AdversarialSet, open_set

from .conftest import Arrays, N
from .crafting_child import CLASSES, model
from .test_importing import BATCH, CARD, as_floats, bring_in

# --- what other libraries leave ---------------------------------------------------------------


def test_values_a_rounding_outside_are_clipped_and_told(arrays: Arrays, tmp_path: Path) -> None:
    images, clean = as_floats(arrays["images"]), as_floats(arrays["clean"])
    images[3, 0, 0, 0], clean[3, 0, 0, 0] = np.nextafter(np.float32(1), np.float32(2)), 1.0
    images[4, 0, 0, 0], clean[4, 0, 0, 0] = -1e-8, 0.0
    np.savez(tmp_path / "f.npz", images=images, clean=clean, labels=arrays["labels"])
    said: list[str] = []
    import_set(
        model(),
        CARD,
        tmp_path / "f.npz",
        imported_spec("theirs", "8/255", "linf", CARD),
        tmp_path / "s",
        model_sha256="0",
        batch_size=BATCH,
        report_progress=lambda done, total, text: said.append(text),
    )
    found = open_set(tmp_path / "s")
    assert (found.images[3, 0, 0, 0], found.images[4, 0, 0, 0]) == (255, 0)
    assert "values up to 1.2e-07 outside [0, 1], as rounding leaves, were clipped" in said[-1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_float16_set_is_held_to_what_float16_can_tell(
    arrays: Arrays, tmp_path: Path, norm: str
) -> None:
    """On the grid its values are levels again; off it they are brought back into the budget."""
    half = {name: as_floats(arrays[name]).astype(np.float16) for name in ("images", "clean")}
    found = bring_in({"labels": arrays["labels"], **half}, tmp_path)
    assert found.manifest.on_grid
    np.testing.assert_array_equal(found.images, arrays["images"])
    signs = np.random.default_rng(1).choice([-1, 1], half["clean"].shape)
    change = signs * 7.5 / 255  # Between two levels.
    epsilon = 7.5 / 255 * (1 if norm == "linf" else 48**0.5)
    moved = (half["clean"] + change.astype(np.float16)).astype(np.float16)
    moved[0, 0, 0, 0], half["clean"][0, 0, 0, 0] = np.nextafter(np.float16(1), np.float16(2)), 1.0
    off = {"images": moved, "clean": half["clean"], "labels": arrays["labels"]}
    folder = tmp_path / "off"
    folder.mkdir()
    found = bring_in(off, folder, epsilon=str(epsilon), norm=norm)
    assert not found.manifest.on_grid
    assert np.abs(found.images - np.clip(moved, 0, 1)).max() < 0.0006


def test_a_distance_is_told_with_the_digits_that_tell_it_from_the_budget(
    arrays: Arrays, tmp_path: Path
) -> None:
    images = as_floats(arrays["clean"])
    images[5, 0, 0, 0] += np.float32(8 / 255 + 3e-6)
    with pytest.raises(InputError, match=r"image 5 is 0\.03138 .*beyond --epsilon 0\.03137;"):
        bring_in(arrays | {"images": images}, tmp_path)


def test_labels_in_a_column_are_labels(arrays: Arrays, tmp_path: Path) -> None:
    found = bring_in(arrays | {"labels": arrays["labels"][:, None]}, tmp_path)
    np.testing.assert_array_equal(found.labels, arrays["labels"])


class Beside:
    """Test images of a dataset, some more than the file has."""

    dataset, classes, shape, identity = "noise", CLASSES, (3, 4, 4), "1"

    def __init__(self, arrays: Arrays, count: int = N) -> None:
        self._images, self._labels = arrays["clean"][:count], arrays["labels"][:count]

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, begin: int, end: int) -> Split:
        part = slice(begin, end)
        return Split(torch.from_numpy(self._images[part]), torch.from_numpy(self._labels[part]))


def torch_file(folder: Path, content: Any, **how: Any) -> Path:
    """What torch.save makes of arrays, as tensors."""
    path = folder / "theirs.pth"
    torch.save(content, path, **how)
    return path


def bring_in_tensors(
    path: Path, keys: str | None = None, source: Any = None, norm: str = "linf"
) -> AdversarialSet:
    spec = imported_spec("theirs", "8/255", norm, CARD)
    import_set(
        model(),
        CARD,
        path,
        spec,
        path.parent / "s",
        model_sha256="0",
        keys=parse_import_keys(keys),
        source=source,
        batch_size=BATCH,
    )
    return open_set(path.parent / "s")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torchattacks_saves_is_read(arrays: Arrays, tmp_path: Path, zipped: bool) -> None:
    tensors = {
        "adv_inputs": torch.from_numpy(as_floats(arrays["images"])),
        "labels": torch.from_numpy(arrays["labels"]),
        "clean_inputs": torch.from_numpy(as_floats(arrays["clean"])),
        "save_type": "float",
    }
    path = torch_file(tmp_path, tensors, _use_new_zipfile_serialization=zipped)
    found = bring_in_tensors(path)
    for name in ("images", "clean", "labels"):
        np.testing.assert_array_equal(getattr(found, name), arrays[name])
    assert found.manifest.source_name == "theirs.pth"


@pytest.mark.parametrize(
    ("wrap", "keys"),
    [
        (lambda x: {"adv_complete": x}, None),
        (lambda x: x, None),
        (lambda x: {"apgd-ce": x, "square": x}, "images=square"),
        (lambda x: [x, x], "images=1"),
    ],
)
def test_what_autoattack_s_examples_save_is_read_beside_the_test_images(
    arrays: Arrays, tmp_path: Path, wrap: Callable[[Any], Any], keys: str | None
) -> None:
    """Images alone: the clean ones and their labels are the first of the dataset's test split."""
    first = torch.from_numpy(as_floats(arrays["images"])[:20])
    path = torch_file(tmp_path, wrap(first))
    with pytest.raises(InputError, match=r"theirs\.pth: no array 'clean' in it, but"):
        bring_in_tensors(path, keys)
    found = bring_in_tensors(path, keys, Beside(arrays))
    np.testing.assert_array_equal(found.images, arrays["images"][:20])
    np.testing.assert_array_equal(found.clean, arrays["clean"][:20])
    np.testing.assert_array_equal(found.labels, arrays["labels"][:20])


def test_test_images_in_another_order_or_too_few_are_refused(
    arrays: Arrays, tmp_path: Path
) -> None:
    path = torch_file(tmp_path, torch.from_numpy(as_floats(arrays["images"])))
    turned = {name: array[::-1].copy() for name, array in arrays.items()}
    with pytest.raises(InputError, match="clean images in the same order"):
        bring_in_tensors(path, source=Beside(turned))
    with pytest.raises(InputError, match="25 images, but noise has 20 test images"):
        bring_in_tensors(path, source=Beside(arrays, 20))


class Payload:
    """Runs code where a file is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"images": Payload()}, "cannot be read as tensors alone"),
        ({"images": "text"}, "no array 'images' in it, but no array at all"),
        ("text", "no array 'images' in it, but no array at all"),
        ({"images": torch.zeros(2, dtype=torch.bfloat16)}, "tensor of torch.bfloat16"),
        (torch.tensor(1.0), "no array 'clean' in it, but images"),
    ],
)
def test_a_torch_file_of_something_else_is_refused(
    tmp_path: Path, content: Any, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=sentence):
        bring_in_tensors(torch_file(tmp_path, content))
    assert "unpickled" not in capsys.readouterr().out


def test_a_torn_torch_file_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    path = torch_file(tmp_path, torch.from_numpy(as_floats(arrays["images"])))
    content = path.read_bytes()
    for torn in (b"", b"noise", content[:-1], content[: len(content) // 2]):
        path.write_bytes(torn)
        with pytest.raises(InputError, match=r"theirs\.pth: "):
            bring_in_tensors(path)
