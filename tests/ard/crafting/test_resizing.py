"""torch's resize against Pillow's own, for every policy and of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ard.crafting.resizing import TOLERANCE, Resized, weights
from edge_bench.core.pictures.preprocessing import preprocessing_of
from edge_bench.files.pictures.decode import resized

SIZES = [(96, 96), (40, 61), (61, 40), (33, 200), (16, 16), (9, 12), (5, 5)]


@pytest.mark.parametrize("policy", ["stretch", "pad", "crop", "crop:0.875", "crop:0.3"])
@pytest.mark.parametrize("size", SIZES)
def test_the_image_is_pillow_s_but_for_its_roundings(size: tuple[int, int], policy: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    how = preprocessing_of(16, policy)
    expected = np.asarray(resized(Image.fromarray(noise), how)).astype(float)
    planes = torch.from_numpy(noise.transpose(2, 0, 1).copy()).double().unsqueeze(0)
    found = Resized(how)(planes)[0].permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE + 1e-9
    assert np.abs(found - expected).mean() < 0.4


@pytest.mark.parametrize("size", SIZES)
def test_stretched_it_is_torch_s_antialiased_interpolation(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found = Resized(preprocessing_of(16, None))(images)
    expected = F.interpolate(images, (16, 16), mode="bilinear", antialias=True)
    assert torch.allclose(found, expected, atol=1e-5)


def test_gradients_reach_every_pixel_that_is_looked_at() -> None:
    images = torch.rand(1, 3, 40, 60, requires_grad=True)
    Resized(preprocessing_of(8, "crop"))(images).sum().backward()
    assert images.grad is not None
    reached = images.grad[0, 0] > 0
    assert reached[:, 10:50].all()
    # A crop looks beyond its edge by less than an output pixel.
    assert not reached[:, :5].any()


def test_every_output_pixel_is_a_mean() -> None:
    for count, outputs, begin, end in ((40, 7, 0, 40), (7, 40, 0, 7), (50, 8, 3.3, 31.9)):
        found = weights(count, outputs, begin, end)
        assert found.min() >= 0
        assert np.allclose(found.sum(axis=1), 1)


def test_without_a_resize_images_are_as_they_are() -> None:
    images = torch.rand(1, 3, 5, 7)
    assert Resized(None)(images) is images
