"""An adversarial set opens only when its manifest vouches for every array."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.files.sets import (
    ARRAYS,
    MANIFEST,
    AdversarialSet,
    grid_radius,
    is_set,
    open_set,
    open_sets,
    told_apart,
)

MakeSet = Callable[..., Path]


def test_a_set_opens_with_the_arrays_that_were_written(
    opened: AdversarialSet,
    attacked: NDArray[np.uint8],
    clean: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> None:
    np.testing.assert_array_equal(opened.images, attacked)
    np.testing.assert_array_equal(opened.clean, clean)
    np.testing.assert_array_equal(opened.labels, labels)


def test_a_budget_on_the_grid_is_of_whole_steps_within_it() -> None:
    assert [grid_radius(steps / 255) for steps in range(256)] == list(range(256))
    # 7.65, 0.99 and 12.75 steps: one more would be beyond the budget.
    assert [grid_radius(epsilon) for epsilon in (0.03, 0.99 / 255, 0.05)] == [7, 0, 12]


def test_two_numbers_that_differ_are_told_by_digits_that_do() -> None:
    assert told_apart(0.2, 0.1, "beyond") == "0.2000 beyond 0.1000"
    assert told_apart(0.100000004, 0.1, "beyond") == "0.100000004 beyond 0.100000000"


def test_a_set_s_arrays_are_read_only_memory_maps(opened: AdversarialSet) -> None:
    for array in (opened.images, opened.clean, opened.labels, opened.source_success):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_a_folder_with_more_in_it_is_no_set(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set()
    assert is_set(folder)
    assert not is_set(tmp_path / "none")
    (folder / "thesis.txt").write_text("mine", encoding="utf-8")
    assert not is_set(folder)


def test_a_set_is_called_after_its_folder(opened: AdversarialSet) -> None:
    assert opened.name == "pgd"


def test_a_set_opened_as_the_working_directory_keeps_its_name(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_set("fgsm"))
    assert open_sets(Path())[0].name == "fgsm"


def test_a_set_off_the_grid_holds_floats(make_set: MakeSet, attacked: NDArray[np.uint8]) -> None:
    images = (attacked / np.float32(255)).astype(np.float32)
    assert open_set(make_set(images=images)).images.dtype == np.float32


def test_the_identity_of_images_depends_on_their_pixels_and_labels_alone(
    make_set: MakeSet, clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    first = open_set(make_set("a")).images_sha256
    assert open_set(make_set("b", images=clean)).images_sha256 == first
    assert open_set(make_set("c", clean=255 - clean, images=255 - clean)).images_sha256 != first
    assert open_set(make_set("d", labels=(labels + 1) % 4)).images_sha256 != first


@pytest.mark.parametrize("name", ARRAYS)
def test_a_tampered_array_is_refused(make_set: MakeSet, name: str) -> None:
    folder = make_set()
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(InputError, match=f"{name}: its sha256 is not the manifest's"):
        open_set(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_refused(make_set: MakeSet, name: str) -> None:
    folder = make_set()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: an array of the set is missing"):
        open_set(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, 500])
def test_a_truncated_array_is_refused_even_where_its_hash_fits(
    make_set: MakeSet, vouch: Callable[[Path], None], kept: int
) -> None:
    folder = make_set()
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes()[:kept])
    vouch(folder)
    with pytest.raises(InputError, match=r"images\.npy: not a numpy array file"):
        open_set(folder)


def test_a_pickled_array_is_refused_before_it_can_run_code(
    make_set: MakeSet, vouch: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = make_set()
    trap = np.empty(1, dtype=object)
    trap[0] = Trap(tmp_path / "sprung")
    np.save(folder / "labels.npy", trap, allow_pickle=True)
    vouch(folder)
    with pytest.raises(InputError, match=r"labels\.npy: not a numpy array file"):
        open_set(folder)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


def test_a_bare_pickle_is_refused(make_set: MakeSet, vouch: Callable[[Path], None]) -> None:
    folder = make_set()
    np.array([1]).dump(folder / "labels.npy")
    vouch(folder)
    with pytest.raises(InputError, match=r"labels\.npy: not a numpy array file"):
        open_set(folder)


def test_an_archive_of_arrays_is_refused(
    make_set: MakeSet, vouch: Callable[[Path], None], labels: NDArray[np.int64]
) -> None:
    folder = make_set()
    with (folder / "labels.npy").open("wb") as file:
        np.savez(file, labels=labels)
    vouch(folder)
    with pytest.raises(InputError, match=r"labels\.npy: not a numpy array file"):
        open_set(folder)


def test_a_manifest_that_lists_no_hash_is_refused(make_set: MakeSet) -> None:
    folder = make_set(manifest={"arrays": {}})
    with pytest.raises(InputError, match=r"lists no hash of images\.npy"):
        open_set(folder)


def test_a_missing_manifest_is_refused(make_set: MakeSet) -> None:
    folder = make_set()
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match="expected the manifest of an adversarial set"):
        open_set(folder)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range_is_refused(
    make_set: MakeSet, labels: NDArray[np.int64], label: int
) -> None:
    bad = np.where(np.arange(len(labels)) == 7, label, labels)
    with pytest.raises(InputError, match=r"expected labels from 0 to 3, came .*craft"):
        open_set(make_set(labels=bad))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images", lambda a: a[:-1]),
        ("images", lambda a: a[:, :1]),
        ("images", lambda a: a.transpose(0, 2, 3, 1)),
        ("clean", lambda a: a.reshape(len(a), -1)),
        ("source_success", lambda a: a[:, None]),
        ("labels", lambda a: a.astype(np.int32)),
        ("labels", lambda a: a.astype(np.float32)),
        ("clean", lambda a: a.astype(np.float32)),
        ("images", lambda a: a.astype(np.float64)),
        ("images", lambda a: a.astype(np.int8)),
        ("source_success", lambda a: a.astype(np.uint8)),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused(
    make_set: MakeSet,
    clean: NDArray[np.uint8],
    labels: NDArray[np.int64],
    name: str,
    change: Callable[[NDArray[Any]], NDArray[Any]],
) -> None:
    good: dict[str, NDArray[Any]] = {
        "images": clean,
        "clean": clean,
        "labels": labels,
        "source_success": np.ones(len(labels), dtype=np.bool_),
    }
    manifest = {"samples": len(labels), "image_shape": clean.shape[1:]}
    folder = make_set(manifest=manifest, **(good | {name: change(good[name])}))
    with pytest.raises(InputError, match=rf"{name}\.npy: expected .* of shape .*came .*craft"):
        open_set(folder)


def test_a_set_whose_grid_flag_does_not_fit_its_images_is_refused(make_set: MakeSet) -> None:
    with pytest.raises(InputError, match=r"images\.npy: expected float32 .*came uint8"):
        open_set(make_set(manifest={"on_grid": False}))


def test_a_set_without_samples_is_refused(
    make_set: MakeSet, clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    folder = make_set(images=clean[:0], clean=clean[:0], labels=labels[:0])
    with pytest.raises(InputError, match="without samples"):
        open_set(folder)


def test_a_folder_of_sets_is_opened_by_name(make_set: MakeSet) -> None:
    for name in ("pgd", "autoattack", "fgsm"):
        folder = make_set(name)
    assert [s.name for s in open_sets(folder.parent)] == ["autoattack", "fgsm", "pgd"]


def test_a_single_set_is_opened_from_its_own_folder(make_set: MakeSet) -> None:
    make_set("fgsm")
    assert [s.name for s in open_sets(make_set("pgd"))] == ["pgd"]


def test_an_unfinished_set_in_a_folder_of_sets_is_passed_over(make_set: MakeSet) -> None:
    make_set(".pgd.partial-17")
    folder = make_set("fgsm")
    assert [s.name for s in open_sets(folder.parent)] == ["fgsm"]


def test_a_set_that_lost_its_manifest_is_not_passed_over(make_set: MakeSet) -> None:
    # Leaving out the strongest attack would raise the worst case without a word.
    (make_set("autoattack") / MANIFEST).unlink()
    folder = make_set("fgsm")
    with pytest.raises(InputError, match=r"autoattack.*expected the manifest"):
        open_sets(folder.parent)


def test_a_folder_beside_the_sets_that_is_no_set_is_passed_over(make_set: MakeSet) -> None:
    folder = make_set("fgsm")
    (folder.parent / "notes").mkdir()
    assert [s.name for s in open_sets(folder.parent)] == ["fgsm"]


def test_sets_whose_labels_have_other_names_are_refused(make_set: MakeSet) -> None:
    make_set("a", manifest={"class_names": ("cat", "dog", "elk", "owl")})
    make_set("b")
    root = make_set("c", manifest={"class_names": ("cat", "dog", "elk", "owl")}).parent
    assert len(open_sets(root)) == 3
    make_set("d", manifest={"class_names": ("dog", "cat", "elk", "owl")})
    with pytest.raises(InputError, match="d: classes in another order"):
        open_sets(root)


def test_sets_over_other_clean_images_are_refused(
    make_set: MakeSet, clean: NDArray[np.uint8]
) -> None:
    make_set("fgsm")
    folder = make_set("pgd", clean=255 - clean, images=255 - clean)
    with pytest.raises(InputError, match=r"pgd: holds other clean images or labels than .*fgsm"):
        open_sets(folder.parent)


def test_an_image_beyond_epsilon_is_refused(make_set: MakeSet, clean: NDArray[np.uint8]) -> None:
    images = clean.copy()
    value = int(clean[3, 0, 0, 0])
    images[3, 0, 0, 0] = value + 17 if value < 200 else value - 17
    with pytest.raises(InputError, match=r"images\.npy: an image is 0\.0667 from its clean one"):
        open_set(make_set(images=images))


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan])
def test_float_images_outside_their_range_are_refused(
    make_set: MakeSet, clean: NDArray[np.uint8], value: float
) -> None:
    images = clean.astype(np.float32) / 255
    images[2, 1, 0, 0] = value
    with pytest.raises(InputError, match=r"images\.npy: expected images in \[0, 1\]"):
        open_set(make_set(images=images))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no adversarial set in this folder; craft one"):
        open_sets(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder of adversarial sets; craft one"):
        open_sets(tmp_path / "none")


def test_a_manifest_of_a_newer_schema_is_refused(make_set: MakeSet) -> None:
    folder = make_set()
    data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(data | {"schema_version": 9}), encoding="utf-8")
    with pytest.raises(InputError, match="schema version 9"):
        open_set(folder)


@pytest.mark.parametrize(
    "shape",
    [
        "(True, True)",
        f"({10**30},)",
        f"({2**63},)",
        "(6000000000000,)",
        "(-1,)",
        "(1.5,)",
        "('a',)",
        f"({2**40}, {2**40})",
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(
    make_set: MakeSet, vouch: Callable[[Path], None], shape: str
) -> None:
    folder = make_set()
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    size = len(header).to_bytes(2, "little")
    (folder / "clean.npy").write_bytes(b"\x93NUMPY\x01\x00" + size + header.encode() + b"\x00" * 64)
    vouch(folder)
    with pytest.raises(InputError, match=r"clean\.npy: ") as caught:
        open_set(folder)
    assert "\n" not in str(caught.value)
