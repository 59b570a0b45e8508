"""Pictures that a model knows, and a plain loop of Pillow and ONNX Runtime beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edge_bench.core.pictures.preprocessing import Preprocessing, preprocessing_of
from edge_bench.core.spec import ModelCard, Report
from edge_bench.options.bench import BenchOptions
from edge_bench.options.pictures import PictureOptions
from edge_bench.runs.one_run import run

NAMES = ("ant", "bee", "fly", "moth")
SIDE, EACH = 8, 10
QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)
SWAPPED = """
import numpy as np
from PIL import Image

def same(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR))

def swapped(path):
    return same(path)[..., ::-1]

def planes(path):
    return (same(path).transpose(2, 0, 1) / np.float32(255)).astype(np.float32)

def wide(path):
    return np.zeros((8, 9, 3), dtype=np.uint8)

def broken(path):
    raise KeyError("lens\\ncap")

def leaving(path):
    raise SystemExit(0)

def beside(path):
    return same(path), {"path": path}

def ragged(path):
    return [[1, 2], [3]]

class Learning:
    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")

def learning(path):
    return Learning()
"""

Run = Callable[..., Report]


def draw(seed: int) -> NDArray[np.uint8]:
    """Smooth colours of any size, so that resizing leaves something of them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    size = int(rng.integers(20, 40)), int(rng.integers(20, 40))
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


@cache
def session_of(model: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def reference(model: Path, path: Path, how: Preprocessing | None) -> int:
    """The class of a picture by Pillow and ONNX Runtime alone."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    if how is not None and how.policy == "crop":
        side = how.crop_share * min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    elif how is not None:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    image = np.asarray(picture).transpose(2, 0, 1)[None] / np.float32(255)
    session = session_of(model)
    return int(session.run(None, {"images": image.astype(np.float32)})[0].argmax())


@pytest.fixture
def colours(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights that look at colours, and give every class its share of them."""
    tints = np.array([[2, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, -2]], dtype=np.float32)
    spread = np.broadcast_to(tints[:, :, None], (len(weight), 3, SIDE * SIDE))
    found: NDArray[np.float32] = spread.reshape(len(weight), -1) + 0.3 * weight
    return found.astype(np.float32)


@pytest.fixture
def made(
    tmp_path: Path,
    make_model: Callable[..., Path],
    make_card: Callable[..., ModelCard],
    colours: NDArray[np.float32],
) -> Callable[..., Path]:
    """A model whose card says how pictures become images, and the folder `photos` beside it."""

    def make(how: Preprocessing | None = None, **fields: Any) -> Path:
        how = how or preprocessing_of(SIDE, None)
        card = make_card(preprocessing=how, class_names=NAMES, **fields)
        model = make_model(card=card, weight=colours)
        counts = dict.fromkeys(NAMES, 0)
        for seed in range(400):
            path = tmp_path / f"{seed}.{'jpg' if seed % 3 else 'png'}"
            exif = Image.Exif()
            exif[0x0112] = 1 + seed % 8
            Image.fromarray(draw(seed)).save(path, exif=exif)
            name = NAMES[reference(model, path, how)]
            if counts[name] == EACH:
                path.unlink()
                continue
            # Every fifth lies in another folder than the model would put it.
            wrong = counts[name] % 5 == 0
            folder = NAMES[(NAMES.index(name) + 1) % len(NAMES)] if wrong else name
            (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
            path.rename(tmp_path / "photos" / folder / path.name)
            counts[name] += 1
        assert set(counts.values()) == {EACH}
        return model

    return make


@pytest.fixture
def walk(tmp_path: Path, quick: Callable[..., BenchOptions]) -> Run:
    def go(model: Path, pipeline: str = "pillow", folder: str = "photos") -> Report:
        asked = PictureOptions(folder=tmp_path / folder, pipeline=pipeline)
        return run(model, [], quick(pictures=asked))

    return go


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's in the working folder."""
    (tmp_path / "mine.py").write_text(SWAPPED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
