"""One picture as it is decoded: formats, depth, orientation, transparency."""

from __future__ import annotations

import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ard.data import picture_files
from ard.data.picture_files import pictures_of
from edge_bench.core.errors import InputError
from edge_bench.files.pictures.decode import read_picture

LEVELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(path: Path, depth: int, colour: int, row: bytes) -> Path:
    """A PNG of two pixels in one row, of any depth and colour type."""
    header = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


@pytest.mark.parametrize(
    ("colour", "channels", "depth"),
    [(0, 1, 16), (2, 3, 16), (4, 2, 16), (6, 4, 16), (0, 1, 8), (2, 3, 8), (4, 2, 8), (6, 4, 8)],
)
def test_pngs_of_more_than_8_bits_are_refused_in_every_colour(
    tmp_path: Path, colour: int, channels: int, depth: int
) -> None:
    path = png(tmp_path / "p.png", depth, colour, b"\x12\x34" * channels * (depth // 8))
    if depth == 8:
        assert read_picture(path, "RGB", None).shape == (1, 2, 3)
        return
    with pytest.raises(InputError, match=r"p\.png: more than 8 bits a channel"):
        read_picture(path, "RGB", None)


@pytest.mark.parametrize(
    ("head", "content", "deep"),
    [
        (b"P6 2 1 65535\n", bytes(12), True),
        (b"P6 2 1 1023\n", bytes(12), True),
        (b"P5 2 1 65535\n", bytes(4), True),
        (b"P5 2 1 300\n", bytes(4), True),
        (b"P3 2 1 1000\n", b"0 1 2 3 4 5\n", True),
        (b"P6 2 1 255\n", bytes(6), False),
        (b"P6 2 1 15\n", bytes(6), False),
        (b"P5 2 1 255\n", bytes(2), False),
        (b"P3 2 1 255\n", b"0 1 2 3 4 5\n", False),
    ],
)
def test_ppms_of_more_than_255_levels_are_refused(
    tmp_path: Path, head: bytes, content: bytes, deep: bool
) -> None:
    (tmp_path / "p.ppm").write_bytes(head + content)
    if not deep:
        assert read_picture(tmp_path / "p.ppm", "RGB", None).shape == (1, 2, 3)
        return
    with pytest.raises(InputError, match="more than 8 bits"):
        read_picture(tmp_path / "p.ppm", "RGB", None)


def tiff(path: Path, bits: int) -> Path:
    """An RGB TIFF of 2x1 pixels, which Pillow itself writes of 8 bits alone."""
    row = bytes(2 * 3 * bits // 8)
    entries = [
        (256, 3, 1, 2),
        (257, 3, 1, 1),
        (258, 3, 3, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),
        (277, 3, 1, 3),
        (279, 4, 1, len(row)),
    ]
    start = 14 + len(row)
    directory = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<I", value) if kind == 4 or count > 1 else struct.pack("<HH", value, 0))
        for tag, kind, count, value in entries
    )
    content = struct.pack("<2sHI", b"II", 42, start) + struct.pack("<3H", bits, bits, bits) + row
    path.write_bytes(content + struct.pack("<H", len(entries)) + directory + bytes(4))
    return path


def test_a_tiff_of_16_bits_is_refused(tmp_path: Path) -> None:
    assert read_picture(tiff(tmp_path / "8.tif", 8), "RGB", None).shape == (1, 2, 3)
    with pytest.raises(InputError, match=r"16\.tif: more than 8 bits"):
        read_picture(tiff(tmp_path / "16.tif", 16), "RGB", None)


@pytest.mark.parametrize("width", [5, 53, 54, 160, 161])
def test_a_number_in_the_head_is_not_taken_for_a_depth(tmp_path: Path, width: int) -> None:
    """A BMP of 53 pixels has rows of 160 bytes, and a TIFF states offsets."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, width, 3), dtype=np.uint8)
    for name, options in (("p.bmp", {}), ("p.tif", {}), ("z.tif", {"compression": "tiff_lzw"})):
        Image.fromarray(pixels).save(tmp_path / name, **options)
        assert np.array_equal(read_picture(tmp_path / name, "RGB", None), pixels)


def test_a_bmp_of_16_bits_a_pixel_is_read(tmp_path: Path) -> None:
    pixel = struct.pack("<H", 0b11111_000000_11111) + bytes(2)
    head = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    start = 14 + len(head) + len(masks)
    name = struct.pack("<2sIHHI", b"BM", start + 4, 0, 0, start)
    (tmp_path / "p.bmp").write_bytes(name + head + masks + pixel)
    assert read_picture(tmp_path / "p.bmp", "RGB", None).tolist() == [[[255, 0, 255]]]


def test_a_depth_is_refused_before_a_long_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_files, "IN_MEMORY_BYTES", 0)
    good = png(tmp_path / "0.png", 8, 2, bytes(6))
    deep = png(tmp_path / "1.png", 16, 2, bytes(12))
    with pytest.raises(InputError, match=r"1\.png: more than 8 bits"):
        pictures_of([good, deep], [0, 1], tmp_path, None)


ORIENTED = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}


def oriented(path: Path, kind: str, orientation: int) -> Path:
    """LEVELS, to be shown turned by an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(LEVELS).save(path, kind, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ORIENTED)
def test_a_picture_is_upright_as_its_orientation_says(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    path = oriented(tmp_path / f"p.{ORIENTED[kind]}", kind, orientation)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    found = read_picture(path, "RGB", None)
    assert np.array_equal(found, expected)
    assert found.shape == ((6, 4, 3) if orientation > 4 else (4, 6, 3))
    if kind != "JPEG":
        # What EXIF says of each value, in words of rows and columns.
        turned = {
            1: LEVELS,
            2: LEVELS[:, ::-1],
            3: LEVELS[::-1, ::-1],
            4: LEVELS[::-1],
            5: LEVELS.transpose(1, 0, 2),
            6: np.rot90(LEVELS, -1),
            7: LEVELS[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(LEVELS),
        }
        assert np.array_equal(found, turned[orientation])


@pytest.mark.parametrize("kind", ORIENTED)
def test_sizes_are_those_of_upright_pictures(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_files, "IN_MEMORY_BYTES", 0)
    paths = [oriented(tmp_path / f"{n}.{ORIENTED[kind]}", kind, n) for n in (5, 6, 7, 8)]
    split = pictures_of(paths, [0] * 4, tmp_path, None)
    assert split.streams
    assert split.images.shape == (4, 3, 6, 4)
    lying = oriented(tmp_path / f"1.{ORIENTED[kind]}", kind, 1)
    with pytest.raises(InputError, match="6x4 pixels, but the first picture has 4x6"):
        pictures_of([*paths, lying], [0] * 5, tmp_path, None)


def test_the_digest_of_streamed_pictures_follows_how_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_files, "IN_MEMORY_BYTES", 0)
    path = oriented(tmp_path / "p.png", "PNG", 6)
    now = pictures_of([path], [0], tmp_path, None).sha256
    monkeypatch.setattr(picture_files, "DECODED", "as it lies")
    assert pictures_of([path], [0], tmp_path, None).sha256 != now


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_unknown_orientation_is_none(tmp_path: Path, value: int) -> None:
    path = oriented(tmp_path / "p.png", "PNG", value)
    assert np.array_equal(read_picture(path, "RGB", None), LEVELS)


def test_a_damaged_exif_block_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    Image.fromarray(LEVELS).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(read_picture(path, "RGB", None), LEVELS)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("transparency", [bytes([0, 128, 255, 7]), 2])
def test_a_palettes_transparency_is_left_out_without_a_warning(
    tmp_path: Path, mode: str, transparency: bytes | int
) -> None:
    colours = LEVELS[0, :4]
    image = Image.fromarray(np.arange(4, dtype=np.uint8)[None], "L").convert("P")
    image.putpalette(colours.tobytes())
    path = tmp_path / "p"
    image.save(path, "PNG", transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_picture(path, mode, None)
    expected = np.asarray(Image.fromarray(colours[None]).convert(mode))
    assert np.array_equal(found, expected)


def test_an_alpha_channel_is_left_out(tmp_path: Path) -> None:
    alpha = np.arange(24, dtype=np.uint8).reshape(4, 6, 1) * 10
    Image.fromarray(np.concatenate([LEVELS, alpha], axis=2)).save(tmp_path / "p.png")
    assert np.array_equal(read_picture(tmp_path / "p.png", "RGB", None), LEVELS)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("content", [POSTSCRIPT, b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_only_the_named_formats_are_opened(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostScript would be run by Ghostscript, a program of its own, where that is there."""
    called = tmp_path / "called"
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {called}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("gs") == str(tmp_path / "gs")
    (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(InputError, match=r"p\.png: not a readable picture"):
        read_picture(tmp_path / "p.png", "RGB", None)
    assert not called.exists()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    with pytest.raises(InputError, match=r"p\.png: not a readable picture \(not a regular file\)"):
        read_picture(tmp_path / "p.png", "RGB", None)


def test_the_first_frame_of_several_counts(tmp_path: Path) -> None:
    frames = [Image.fromarray(LEVELS), Image.fromarray(255 - LEVELS)]
    frames[0].save(tmp_path / "p.tif", save_all=True, append_images=frames[1:])
    split = pictures_of([tmp_path / "p.tif"], [0], tmp_path, None)
    assert torch.equal(split.images[0].permute(1, 2, 0), torch.from_numpy(LEVELS))
