"""What a network is refused for before it trains: every family, at sizes that it does not take."""

from __future__ import annotations

import re

import pytest
import torch
from torchvision import models as torchvision_models

from ard.models.architectures import ARCHITECTURES, build_model
from ard.models.sizes import check_fits, shapes_of, smallest_size, why_not
from edge_bench.core.errors import InputError

THEIRS = torchvision_models.list_models(module=torchvision_models)
REFUSED = {
    32: {"alexnet", "inception_v3", "maxvit_t", "vit_h_14"},
    64: {"inception_v3", "maxvit_t", "vit_h_14"},
}
ZEROS, ONES = torch.zeros(3), torch.ones(3)


def of_each_family() -> list[str]:
    """Our names, those that refuse a size, and of torchvision's the smallest of each family.

    What a family's larger networks have more of is blocks and channels, which fit any image.
    """
    smallest: dict[str, str] = {}
    for name in sorted(THEIRS, key=parameters):
        family = re.match(r"[a-z]+(_v\d)?", name)
        assert family is not None
        smallest.setdefault(family[0], name)
    return sorted({*ARCHITECTURES, *smallest.values(), *REFUSED[32]})


def parameters(name: str) -> int:
    weights = next(iter(torchvision_models.get_model_weights(name)))
    return int(weights.meta["num_params"])


@pytest.mark.parametrize("name", of_each_family())
def test_every_family_takes_small_images_or_says_no(name: str) -> None:
    """Those that take 32x32 and are not built for a size need no second look."""
    fixed = name.startswith("vit")
    for side in (32, 64) if name in REFUSED[32] or fixed else (32,):
        assert (why_not(name, (3, side, side)) is not None) == (name in REFUSED[side])


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "googlenet",
        "inception_v3",
        "squeezenet1_0",
        "squeezenet1_1",
        "vgg11",
    ],
)
def test_the_smallest_size_is_the_one_that_torchvision_documents(name: str) -> None:
    documented = next(iter(torchvision_models.get_model_weights(name))).meta["min_size"]
    side, _ = documented
    assert documented == (side, side)
    assert why_not(name, (3, side, side)) is None
    assert side == 1 or why_not(name, (3, side - 1, side - 1)) is not None


@pytest.mark.parametrize(
    ("name", "smallest"), [("alexnet", 63), ("squeezenet1_0", 21), ("squeezenet1_1", 17)]
)
def test_the_smallest_size_is_found(name: str, smallest: int) -> None:
    assert smallest_size(name, 3) == smallest


@pytest.mark.parametrize(
    ("name", "above", "next_size"),
    [("vit_b_16", 0, 16), ("vit_b_16", 50, 64), ("vit_h_14", 14, 28), ("maxvit_t", 0, 221)],
)
def test_sizes_of_networks_that_are_built_for_one(name: str, above: int, next_size: int) -> None:
    assert smallest_size(name, 3, above) == next_size


def test_where_nothing_up_to_the_largest_fits_none_is_named() -> None:
    assert smallest_size("alexnet", 3, above=511) == 512
    assert smallest_size("vit_b_16", 3, above=512) is None


@pytest.mark.parametrize("side", [16, 17])
def test_shapes_decide_as_the_computation_does(side: int) -> None:
    network = build_model("squeezenet1_1", 3, 2, ZEROS, ONES).train()
    images = torch.zeros(2, 3, side, side)
    if why_not("squeezenet1_1", (3, side, side)) is None:
        assert network(images).shape == (2, 2)
    else:
        with pytest.raises(RuntimeError, match="Output size is too small"):
            network(images)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("alexnet", (32, 32), ("alexnet", "32x32", "smallest that it takes is 63x63")),
        ("maxvit_t", (64, 64), ("maxvit_t", "64x64", "221x221")),
        ("vit_b_16", (50, 50), ("vit_b_16", "50x50", "16x16, and the next above 64x64")),
        ("vit_b_16", (32, 48), ("vit_b_16", "32x48", "next above 48x48")),
        ("alexnet", (32, 200), ("alexnet", "32x200", "63x63")),
    ],
)
def test_the_refusal_names_the_sizes(
    name: str, size: tuple[int, int], words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        check_fits(name, (3, *size))
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "--image-size" in text
    assert text.count(f"architecture {name}") == 1
    assert "\n" not in text


def test_what_is_no_question_of_size_keeps_its_sentence() -> None:
    with pytest.raises(InputError, match="expected one of"):
        check_fits("resnet9", (3, 32, 32))
    with pytest.raises(InputError, match="3 channels"):
        check_fits("alexnet", (1, 32, 32))


def test_a_look_at_the_shapes_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    for name in ("vit_b_32", "regnet_y_400mf", "swin_t", "googlenet"):
        assert why_not(name, (3, 32, 32)) is None
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_of_shapes_holds_no_weights() -> None:
    network = shapes_of("vit_h_14", (3, 28, 28), 2)
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert sum(p.numel() for p in network.parameters()) > 600e6
