"""A set of another library becomes one of ours only after every array was checked."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ard.crafting.foreign import ImportKeys, parse_import_keys
from ard.crafting.importing import import_set, imported_spec
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.files.store import sha256_file

from .conftest import Arrays, N
from .crafting_child import CLASSES, model

CARD = ModelCard(
    architecture="linear", dataset="noise", classes=CLASSES, input_shape=(3, 4, 4), recipe={}
)
BATCH = 10


def bring_in(
    arrays: Arrays,
    folder: Path,
    keys: str | None = None,
    *,
    epsilon: str = "8/255",
    norm: str = "linf",
    compressed: bool = False,
    card: ModelCard = CARD,
) -> AdversarialSet:
    (np.savez_compressed if compressed else np.savez)(folder / "f.npz", **arrays)  # type: ignore[arg-type]
    return bring_in_file(folder, keys, epsilon=epsilon, norm=norm, card=card)


def bring_in_file(
    folder: Path,
    keys: str | None = None,
    *,
    epsilon: str = "8/255",
    norm: str = "linf",
    card: ModelCard = CARD,
) -> AdversarialSet:
    import_set(
        model(),
        card,
        folder / "f.npz",
        imported_spec("theirs", epsilon, norm, card),
        folder / "s",
        model_sha256="0",
        keys=parse_import_keys(keys),
        batch_size=BATCH,
    )
    return open_set(folder / "s")


def as_floats(images: NDArray[Any]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_imported_set_holds_the_arrays_and_says_where_they_are_from(
    arrays: Arrays, tmp_path: Path, compressed: bool
) -> None:
    found = bring_in(arrays, tmp_path, compressed=compressed)
    for name in ("images", "clean", "labels"):
        np.testing.assert_array_equal(getattr(found, name), arrays[name])
    manifest = found.manifest
    assert manifest.threat == "imported"
    assert manifest.source_name == "f.npz"
    assert manifest.source_sha256 == sha256_file(tmp_path / "f.npz")
    assert manifest.dataset == "noise"
    assert (manifest.attack.name, manifest.attack.steps) == ("theirs", None)


def test_success_is_judged_on_the_model(arrays: Arrays, tmp_path: Path) -> None:
    found = bring_in(arrays, tmp_path)
    with torch.no_grad():
        predicted = model()(torch.from_numpy(as_floats(arrays["images"]))).argmax(1).numpy()
    assert np.array_equal(found.source_success, predicted != arrays["labels"])
    assert 0 < found.source_success.mean() < 1


CONVERSIONS: list[tuple[str, Callable[[NDArray[Any]], NDArray[Any]]]] = [
    ("float32", as_floats),
    ("float64", lambda a: a / 255),
    ("NHWC", lambda a: a.transpose(0, 2, 3, 1)),
    ("float NHWC", lambda a: as_floats(a.transpose(0, 2, 3, 1))),
    ("other endian", lambda a: as_floats(a).astype(">f4")),
]


@pytest.mark.parametrize(("_name", "convert"), CONVERSIONS)
def test_one_set_in_any_type_and_layout_is_the_same_set(
    arrays: Arrays, tmp_path: Path, _name: str, convert: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    changed = {name: convert(arrays[name]) for name in ("images", "clean")}
    found = bring_in({"labels": arrays["labels"].astype(np.uint8), **changed}, tmp_path)
    assert found.manifest.on_grid
    for name in ("images", "clean", "labels"):
        np.testing.assert_array_equal(getattr(found, name), arrays[name])


def test_images_between_the_levels_stay_floats(arrays: Arrays, tmp_path: Path) -> None:
    images = as_floats(arrays["clean"])
    # The last batch alone is off the grid.
    images[-1, 0, 0, 0] += 0.013
    found = bring_in(arrays | {"images": images}, tmp_path)
    assert not found.manifest.on_grid
    np.testing.assert_array_equal(found.images, images)


def test_clean_floats_near_the_levels_are_rounded_to_them(arrays: Arrays, tmp_path: Path) -> None:
    near = as_floats(arrays["clean"]) + np.float32(0.0009)
    found = bring_in(arrays | {"clean": near}, tmp_path)
    np.testing.assert_array_equal(found.clean, arrays["clean"])


def test_a_model_of_one_channel_takes_images_without_one(arrays: Arrays, tmp_path: Path) -> None:
    card = ModelCard(architecture="l", dataset="n", classes=CLASSES, input_shape=(1, 4, 12))
    flat = {name: arrays[name].reshape(N, 4, 12) for name in ("images", "clean")}
    found = bring_in(arrays | flat, tmp_path, card=card)
    np.testing.assert_array_equal(found.images[:, 0], flat["images"])


def test_keys_are_named_by_the_option(arrays: Arrays, tmp_path: Path) -> None:
    theirs = {"x_adv": arrays["images"], "x": arrays["clean"], "labels": arrays["labels"]}
    found = bring_in(theirs, tmp_path, "images=x_adv, clean=x")
    np.testing.assert_array_equal(found.images, arrays["images"])


def test_a_missing_key_is_told_with_the_keys_that_are_there(arrays: Arrays, tmp_path: Path) -> None:
    theirs = {"x_adv": arrays["images"], "x": arrays["clean"], "labels": arrays["labels"]}
    with pytest.raises(InputError, match=r"no array 'images'.*x_adv, x, labels.*--import-key"):
        bring_in(theirs, tmp_path)


@pytest.mark.parametrize("text", ["x_adv", "pictures=x", "images=", "layout=chw", ",", "images=a,"])
def test_bad_key_options_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"--import-key {text}: expected"):
        parse_import_keys(text)


def test_keys_have_defaults() -> None:
    assert parse_import_keys(None) == ImportKeys(images="images", clean="clean", labels="labels")


CUBE = ModelCard(architecture="linear", dataset="n", classes=CLASSES, input_shape=(4, 4, 4))


def test_a_layout_that_the_shape_does_not_tell_must_be_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 4, 4, 4), dtype=np.uint8)
    arrays: Arrays = {"images": images, "clean": images, "labels": np.zeros(N, dtype=int)}
    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    spec = imported_spec(None, "8/255", "linf", CUBE)

    def load(text: str | None, out: str) -> NDArray[Any]:
        keys = parse_import_keys(text)
        import_set(
            model(64), CUBE, tmp_path / "f.npz", spec, tmp_path / out, model_sha256="0", keys=keys
        )
        return open_set(tmp_path / out).images

    with pytest.raises(InputError, match="can be NCHW or NHWC"):
        load(None, "a")
    np.testing.assert_array_equal(load("layout=nchw", "b"), images)
    np.testing.assert_array_equal(load("layout=nhwc", "c"), images.transpose(0, 3, 1, 2))


def with_value(value: float) -> Callable[[Arrays], Arrays]:
    def change(arrays: Arrays) -> Arrays:
        images = as_floats(arrays["images"])
        images[17, 1, 2, 3] = value
        return arrays | {"images": images}

    return change


def far(arrays: Arrays) -> Arrays:
    images = arrays["clean"].copy()
    images[[13, 20], 0, 0, 0] ^= 64
    return arrays | {"images": images}


def off_levels(arrays: Arrays) -> Arrays:
    clean = as_floats(arrays["clean"])
    clean[12] += np.float32(0.0015)
    return arrays | {"clean": clean}


BAD: list[tuple[str, Callable[[Arrays], Arrays], str]] = [
    ("above one", with_value(1.01), r"image 17 holds 1\.01, expected values in \[0, 1\]"),
    ("below zero", with_value(-0.01), r"image 17 holds -0\.01, expected"),
    ("NaN", with_value(np.nan), "image 17 holds nan, expected"),
    ("infinite", with_value(np.inf), "image 17 holds inf, expected"),
    ("levels", lambda a: a | {"clean": a["clean"].astype(np.float32)}, "divide levels by 255"),
    ("budget", far, r"image 13 is 0\.2510 \(linf\).*beyond --epsilon 0\.0314"),
    ("clean", off_levels, r"image 12 is 0\.0015 from it; round them"),
    ("label 4", lambda a: a | {"labels": a["labels"] + 1}, "expected labels from 0 to 3"),
    ("label -1", lambda a: a | {"labels": a["labels"] - 1}, "expected labels from 0 to 3"),
    ("float labels", lambda a: a | {"labels": a["labels"] / 1}, "one integer per image"),
    ("one-hot", lambda a: a | {"labels": np.eye(4, dtype=int)[a["labels"]]}, "one integer per"),
    ("few labels", lambda a: a | {"labels": a["labels"][1:]}, "25 images, but .* 24 labels"),
    ("few clean", lambda a: a | {"clean": a["clean"][1:]}, "24 images, but .* 25 labels"),
    ("none", lambda a: {name: array[:0] for name, array in a.items()}, "one integer per image"),
    ("shape", lambda a: a | {"images": a["images"][:, :, :3]}, r"3 channels and 4x4.*\(25, 3, 3"),
    ("layout", lambda a: a | {"clean": a["clean"].transpose(0, 2, 1, 3)}, "NCHW or NHWC"),
    ("int images", lambda a: a | {"images": a["images"].astype(int)}, "uint8 or floats"),
    ("Fortran", lambda a: a | {"clean": np.asfortranarray(a["clean"])}, "Fortran's order"),
    ("objects", lambda a: a | {"labels": a["labels"].astype(object)}, "holds Python objects"),
    ("strings", lambda a: a | {"labels": a["labels"].astype(str)}, "one integer per image"),
]


@pytest.mark.parametrize(("change", "named"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_what_no_set_may_hold_is_refused_and_leaves_nothing(
    arrays: Arrays, tmp_path: Path, change: Callable[[Arrays], Arrays], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        bring_in(change(arrays), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_the_budget_is_held_in_its_norm(arrays: Arrays, tmp_path: Path) -> None:
    change = (as_floats(arrays["images"]) - as_floats(arrays["clean"])).reshape(N, -1)
    largest = float(np.linalg.norm(change, axis=1).max())
    found = bring_in(arrays, tmp_path, epsilon=str(largest), norm="l2")
    assert found.manifest.attack.norm == "l2"
    for share, passes in ((1 - 2e-5, True), (1 - 2e-4, False), (0.99, False)):
        folder = tmp_path / str(share)
        folder.mkdir()
        # What a norm in float32 is off by, as others compute it, is no violation.
        with (
            nullcontext()
            if passes
            else pytest.raises(InputError, match=r"is 0\.\d+ \(l2\) from its clean one")
        ):
            bring_in(arrays, folder, epsilon=str(largest * share), norm="l2")


@pytest.mark.parametrize(
    ("epsilon", "norm", "named"),
    [(None, "l2", "--norm l2: .* give --epsilon"), ("1", "l1", "--norm l1: expected linf or l2")],
)
def test_a_budget_that_says_nothing_is_refused(epsilon: str | None, norm: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        imported_spec(None, epsilon, norm, CARD)


def test_a_torn_file_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", **arrays)  # type: ignore[arg-type]
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "whole.npz").unlink()
    for torn in (b"", b"noise", content[:-1], content[: len(content) // 2], content[100:]):
        (tmp_path / "f.npz").write_bytes(torn)
        with pytest.raises(InputError, match=r"f\.npz: "):
            bring_in_file(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_changed_bytes_are_found_by_the_checksum(arrays: Arrays, tmp_path: Path) -> None:
    # As many as images could have been changed: a valid file in everything but its checksum.
    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    content = bytearray((tmp_path / "f.npz").read_bytes())
    where = content.find(arrays["labels"].tobytes())
    content[where] ^= 1
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"not a readable \.npz file \(Bad CRC-32"):
        bring_in_file(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_an_array_shorter_than_its_header_says_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", arrays["images"])
    short = (tmp_path / "images.npy").read_bytes()[:-48]
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("images.npy", short)
    with pytest.raises(InputError, match="not as long as its header says"):
        bring_in_file(tmp_path)


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("images.npy", b"noise that is no array")
    with pytest.raises(InputError, match="images is no numpy array"):
        bring_in_file(tmp_path)


def test_a_stopped_import_goes_on(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int, text: str) -> None:
        if done == 2 * BATCH:
            raise KeyboardInterrupt

    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    spec = imported_spec("theirs", "8/255", "linf", CARD)

    def load(out: str, **more: Any) -> None:
        file = tmp_path / "f.npz"
        import_set(
            model(), CARD, file, spec, tmp_path / out, model_sha256="0", batch_size=BATCH, **more
        )

    said: list[tuple[int, int, str]] = []
    with pytest.raises(KeyboardInterrupt):
        load("s", report_progress=stop)
    load("s", report_progress=lambda *step: said.append(step))
    load("whole")
    assert said[0] == (20, N, "goes on after 20 samples")
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "s" / path.name).read_bytes() == path.read_bytes()
