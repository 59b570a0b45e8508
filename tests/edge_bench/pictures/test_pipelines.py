"""Ways from a file to an image: OpenCV's, those of one's own, and what is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.pictures.preprocessing import preprocessing_of
from edge_bench.pictures.pipelines import PIPELINES, Wish, open_way
from edge_bench.statistics.path import path_gap

from .conftest import Run


def test_opencv_decodes_and_resizes_otherwise(made: Callable[..., Path], walk: Run) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    walked = walk(made(), "opencv").pictures
    assert walked is not None
    assert walked.versions["opencv"] == cv2.__version__
    gap = path_gap(walked)
    assert gap is not None
    # Other pixels, and yet the same pictures the right way up, in the right colours.
    assert -0.3 < gap.gap < 0.3
    assert gap.changed < 20


@pytest.mark.parametrize("policy", ["stretch", "pad", "crop", "crop:0.8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_opencv_makes_all_but_the_same_image_of_a_smooth_picture(
    tmp_path: Path, policy: str, channels: int
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    slope = np.linspace(0, 200, 40)[:, None, None] * np.ones((40, 30, 3)) + [0, 20, 50]
    Image.fromarray(slope.astype(np.uint8)).save(tmp_path / "p.png")
    wish = Wish(preprocessing=preprocessing_of(16, policy), channels=channels)
    images = []
    for name in PIPELINES:
        value: Any = None
        for _, step in open_way(name, wish).steps:
            value = step(value, tmp_path / "p.png")
        images.append(np.asarray(value).astype(int))
    assert images[0].shape == images[1].shape
    # A whole pixel of the picture is what a crop may differ by.
    assert np.abs(images[0] - images[1]).max() <= 8


def test_libraries_that_are_missing_are_named(
    made: Callable[..., Path], walk: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made()
    for module, mend in (("cv2", "headless"), ("PIL", r"ardx\[pictures")):
        pipeline = "opencv" if module == "cv2" else "pillow"
        monkeypatch.setattr(
            "edge_bench.backends.packages.find_spec",
            lambda name, gone=module: None if name == gone else object(),
        )
        with pytest.raises(
            CapabilityError, match=f"--pipeline {pipeline}: .*; pip install .*{mend}"
        ):
            walk(model, pipeline)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        ("libvips", "--pipeline libvips: expected pillow, opencv, or MODULE:FUNCTION of yours"),
        ("yours:load", "--pipeline yours:load: there is no module yours in the working folder"),
        ("mine:load", "mine.py has no function load; expected one of same, swapped, planes"),
        ("json:load", "--pipeline json:load: json is a module of Python itself"),
        ("mine:broken", r"failed on .*\.(png|jpg) with KeyError \('lens"),
        ("mine:leaving", r"mine:leaving: failed on .* with SystemExit \(0\)"),
        ("mine:beside", "mine:beside: expected an image as a numpy array, came tuple, of which"),
        ("mine:ragged", "mine:ragged: expected an image as a numpy array, came list, of which"),
        ("mine:learning", r"came Learning, of which numpy makes none \(Can't call numpy\(\)"),
        ("mine:wide", r"expected 8x8x3 .* came \(8, 9, 3\) of uint8; resize it to that"),
    ],
)
def test_a_pipeline_that_cannot_be_is_a_sentence(
    made: Callable[..., Path], walk: Run, pipeline: str, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        walk(made(), pipeline)
