"""Folders of pictures as people have them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import ImageFolder

from ard.data import picture_files
from ard.data.datasets import load_dataset
from ard.data.picture_files import PictureFiles, pictures_of
from ard.data.sources import open_images
from edge_bench.core.errors import InputError
from edge_bench.core.pictures.preprocessing import Preprocessing, preprocessing_of
from edge_bench.core.spec import ModelCard
from edge_bench.files.pictures.decode import read_picture
from edge_bench.files.pictures.tree import open_tree

LEVELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def save(path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(LEVELS).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("2", "10", "1"):
        save(tmp_path / "tree" / name / "a.png")
        save(tmp_path / "tree" / name / "inner" / "b.png")
    return tmp_path / "tree"


def test_classes_that_are_numbers_count_as_numbers(root: Path) -> None:
    assert open_tree(root).names == ("1", "2", "10")


def test_pictures_come_in_the_order_of_torchvisions_image_folder(root: Path) -> None:
    save(root / "1" / "inner-more" / "c.png")
    theirs = [Path(path) for path, _ in ImageFolder(str(root)).samples]
    tree = open_tree(root)
    assert [p for name in sorted(tree.names) for p in tree.pictures(name)] == theirs


LEFT_BEHIND = (
    ".DS_Store",
    "1/._a.png",
    "1/Thumbs.db",
    "1/.ipynb_checkpoints/a-checkpoint.png",
    "1/@eaDir/a.png",
    "__MACOSX/1/a.png",
    ".ipynb_checkpoints/a.png",
    "2/desktop.ini",
    "2/THUMBS.DB",
    "2/inner/.a.png.swp",
    "2/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg",
    "lost+found/a.png",
    "System Volume Information/a.png",
    "$RECYCLE.BIN/a.png",
)


def test_what_systems_and_tools_leave_is_skipped_and_counted(root: Path) -> None:
    before = open_tree(root)
    for name in LEFT_BEHIND:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")
    after = open_tree(root)
    assert after.names == before.names
    assert [after.pictures(n) for n in after.names] == [before.pictures(n) for n in before.names]
    assert str(before.skipped) == ""
    assert str(after.skipped) == f"skipped: {len(LEFT_BEHIND)} hidden and system files"


def test_notes_beside_the_pictures_are_skipped_by_name(root: Path) -> None:
    (root / "labels.csv").touch()
    (root / "1" / "inner" / "notes.txt").touch()
    skipped = str(open_tree(root).skipped)
    assert skipped == "skipped: 2 that are no pictures, such as labels.csv"


def heic(root: Path) -> None:
    (root / "2" / "inner" / "c.HEIC").write_bytes(b"\0")


def gif(root: Path) -> None:
    (root / "1" / "a.gif").write_bytes(b"GIF89a")


def empty(root: Path) -> None:
    (root / "3").mkdir()


def beside(root: Path) -> None:
    save(root / "stray.png")


def pipe(root: Path) -> None:
    os.mkfifo(root / "1" / "z.png")


def unknown(root: Path) -> None:
    save(root / "1" / "a.png").rename(root / "1" / "IMG_0001")


def link(name: str, target: str) -> Callable[[Path], None]:
    """Makes a symbolic link of this name below the root."""

    def make(root: Path) -> None:
        (root / name).symlink_to(target)

    return make


def pipe_by_a_link(root: Path) -> None:
    os.mkfifo(root.parent / "pipe")
    (root / "1" / "z.png").symlink_to(root.parent / "pipe")


def once_more_beside(root: Path) -> None:
    save(root.parent / "pool" / "c.png")
    for name in ("1", "2"):
        (root / name / "more").symlink_to(root.parent / "pool")


def loop_beside(root: Path) -> None:
    save(root.parent / "pool" / "c.png")
    (root.parent / "pool" / "pool").symlink_to(root.parent / "pool")
    (root / "1" / "more").symlink_to(root.parent / "pool")


def loop(root: Path) -> None:
    (root / "1" / "again").symlink_to(root / "1")


def loop_to_the_top(root: Path) -> None:
    (root / "1" / "inner" / "again").symlink_to(root / "1", target_is_directory=True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (heic, r"c\.HEIC: no picture that ardx reads .*convert"),
        (empty, "3: a class without pictures"),
        (beside, r"stray\.png: a picture beside the classes' folders"),
        (pipe, r"z\.png: no file but a pipe"),
        (loop, "again: a link back to"),
        (gif, r"a\.gif: no picture that ardx reads"),
        (loop_to_the_top, "again: a link back to"),
        (unknown, "IMG_0001: no picture that ardx reads"),
        (pipe_by_a_link, r"z\.png: no file but a pipe"),
        (link("1/c.png", "nowhere.png"), r"c\.png: a link to nothing"),
        (link("1/circle", "circle"), "circle: a link to nothing"),
        (link("1/c.png", "/dev/null"), r"c\.png: no file but a pipe"),
        (link("1/up", ".."), "up: a link back to"),
        (link("1/top", "/"), "top: a link back to /,"),
        (link("1/other", "../2"), "other: a link back to"),
        (link("1/c.png", "../2/a.png"), r"c\.png: a link back to"),
        (link("one", "1"), "by a link the same folder as"),
        (once_more_beside, "more: by a link the same folder as"),
        (loop_beside, "pool: by a link the same folder as"),
    ],
)
def test_what_cannot_be_used_is_named(
    root: Path, change: Callable[[Path], None], expected: str
) -> None:
    change(root)
    with pytest.raises(InputError, match=expected):
        open_tree(root)


def test_a_folder_beside_is_followed_where_a_link_leads_there(root: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "c.png")
    (root / "1" / "more").symlink_to(tmp_path / "elsewhere")
    assert len(open_tree(root).pictures("1")) == 3


def test_pictures_in_hidden_folders_are_found_by_links_alone(root: Path) -> None:
    """As git-annex keeps files."""
    (root / "1" / "c.png").symlink_to(save(root / ".git" / "annex" / "c.png"))
    assert len(open_tree(root).pictures("1")) == 3


def test_the_same_name_is_one_on_every_system(root: Path) -> None:
    save(root / "ka\u0308fer" / "a.png")  # macOS stores the umlaut as a letter and two dots.
    assert open_tree(root).class_names[-1] == "k\u00e4fer"
    save(root / "k\u00e4fer" / "a.png")
    with pytest.raises(InputError, match="two folders are called"):
        open_tree(root)


def test_a_class_must_have_a_name_that_a_card_can_hold(root: Path) -> None:
    save(root / os.fsdecode(b"caf\xe9") / "a.png")
    with pytest.raises(InputError, match=r"is no UTF-8; rename it"):
        open_tree(root)


def test_a_file_may_have_any_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(root / "1" / os.fsdecode(b"caf\xe9.png"))
    card = ModelCard(
        architecture="a",
        dataset="d",
        classes=3,
        class_names=("1", "2", "10"),
        input_shape=(3, 4, 6),
    )
    source = open_images(root, card)
    assert len(source.read(0, len(source))) == 7
    assert len(source.identity) == 64
    monkeypatch.setattr(picture_files, "IN_MEMORY_BYTES", 0)
    assert len(pictures_of(open_tree(root).pictures("1"), [0] * 3, root, None).sha256) == 64


def test_jfif_is_jpeg(root: Path) -> None:
    save(root / "1" / "c.jfif", format="JPEG")
    assert read_picture(open_tree(root).pictures("1")[1], "RGB", None).shape == (4, 6, 3)


def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Its top is the right side of the stored rows.
    save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png", "RGB", None), np.rot90(LEVELS, -1))


def test_turned_pictures_fit_those_that_need_no_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    for part in ("train", "test"):
        for name in ("a", "b"):
            save(tmp_path / part / name / "turned.png", exif=exif)
            Image.fromarray(np.rot90(LEVELS)).save(tmp_path / part / name / "upright.png")
    dataset = load_dataset(f"imagefolder:{tmp_path}", Path())
    assert dataset.image_shape == (3, 6, 4)
    assert (dataset.train.images[0] == dataset.train.images[1]).all()


@pytest.mark.parametrize("bits", ["I;16", "RGB;16B"])
def test_more_than_8_bits_a_channel_are_refused(tmp_path: Path, bits: str) -> None:
    path = tmp_path / "a.png"
    if bits == "I;16":
        Image.fromarray(LEVELS[..., 0].astype(np.uint16) * 257).save(path)
    else:
        path.write_bytes(_rgb16())
    with pytest.raises(InputError, match="more than 8 bits a channel"):
        read_picture(path, "RGB", None)


def _rgb16() -> bytes:
    """A PNG of one colour pixel with 16 bits a channel, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + struct.pack(">HHH", 1, 2, 65535))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixel), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_palette_with_transparency_gives_its_colours_without_a_warning(tmp_path: Path) -> None:
    palette = Image.fromarray(LEVELS).quantize(4)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_picture(tmp_path / "a.png", "RGB", None)
    assert np.array_equal(found, np.asarray(palette.convert("RGB")))


def test_a_picture_starts_no_program(tmp_path: Path) -> None:
    # EPS below another name: Pillow would hand it to Ghostscript.
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(InputError, match="not a readable picture"):
        read_picture(tmp_path / "a.png", "RGB", None)


def test_a_picture_is_stretched_cut_or_padded(tmp_path: Path) -> None:
    # Wide: green, red in the middle square, blue; a white frame of one pixel above and below.
    levels = np.zeros((8, 24, 3), dtype=np.uint8)
    levels[:, :8], levels[:, 8:16], levels[:, 16:] = (0, 255, 0), (255, 0, 0), (0, 0, 255)
    levels[[0, -1]] = 255
    for turned in (False, True):
        pixels = levels.transpose(1, 0, 2) if turned else levels
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a.png")

        def read(policy: str, turned: bool = turned) -> NDArray[np.uint8]:
            found = read_picture(tmp_path / "a.png", "RGB", preprocessing_of(8, policy))
            assert found.shape == (8, 8, 3)
            return found.transpose(1, 0, 2) if turned else found

        assert read("stretch")[4, [0, 4, 7]].tolist() == [[0, 255, 0], [255, 0, 0], [0, 0, 255]]
        assert np.array_equal(read("crop"), levels[:, 8:16])
        # 0.75 of the shorter side: the frame is cut off, but seen by the resampling at the edge, as
        # where a picture is resized first and cut then.
        assert (read("crop:0.75")[1:-1, 1:-1] == (255, 0, 0)).all()
        assert (read("crop:0.75")[:, :, 0] == 255).all()
        padded = read("pad")
        assert (padded[[0, 1, 6, 7]] == 0).all()
        assert padded[3, [0, 7]].tolist() == [[0, 255, 0], [0, 0, 255]]


def test_an_image_of_another_policy_is_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    save(tmp_path / "a" / "0.png")
    paths = open_tree(tmp_path).pictures("a")
    policies = ("stretch", "crop", "crop:0.9", "pad")

    def digest(how: Preprocessing | None) -> str:
        index = torch.arange(1)
        return PictureFiles(
            paths=paths, root=tmp_path, preprocessing=how, size=(4, 4), index=index
        ).digest()

    assert len({digest(None), *(digest(preprocessing_of(4, each)) for each in policies)}) == 5
