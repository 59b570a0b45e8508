"""Weights to start from, in the shapes in which people have them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ard.models.architectures import Classifier, build_model
from ard.models.checkpoints import Reading
from ard.models.pretrained import described_normalisation, head_of, load_pretrained
from edge_bench.core.errors import InputError

State = dict[str, Tensor]
ARCHITECTURE = "resnet8:4"
SHAPE = (3, 8, 8)
HEAD = {"fc.weight", "fc.bias"}
GIVEN = Reading(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), options="--")

needs_timm = pytest.mark.skipif(
    find_spec("timm") is None, reason="timm is not installed: pip install 'ardx[timm]'"
)


def build(classes: int, seed: int = 0, architecture: str = ARCHITECTURE) -> Classifier:
    torch.manual_seed(seed)
    return build_model(architecture, 3, classes, torch.zeros(3), torch.ones(3)).eval()


def state_of(classes: int) -> State:
    return dict(build(classes).network.state_dict())


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def read(
    path: Path, classes: int = 10, told: list[str] | None = None, **options: Any
) -> Classifier:
    tell = ([] if told is None else told).append
    return load_pretrained(
        path, options.pop("architecture", ARCHITECTURE), SHAPE, classes, tell=tell, **options
    )


def body_is(model: nn.Module, expected: State) -> bool:
    found = model.state_dict()
    return all(torch.equal(found[n], t) for n, t in expected.items() if n not in HEAD)


WRAPPED: dict[str, Callable[[State], Any]] = {
    "bare": dict,
    "state_dict": lambda s: {"state_dict": under("module.", s), "epoch": 3},
    "model": lambda s: {"model": under("_orig_mod.", s), "optimizer": {"state": {}}},
    "net": lambda s: {"net": under("module._orig_mod.", s), "acc": 91.2},
    "ema": lambda s: {"ema": under("module.", s)},
}


@pytest.mark.parametrize("classes", [10, 7])
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_every_wrapping_gives_the_body_and_another_head_is_said(
    wrapped: str, classes: int, tmp_path: Path
) -> None:
    state, told = state_of(7), list[str]()
    torch.save(WRAPPED[wrapped](state), tmp_path / "w.pth")
    model = read(tmp_path / "w.pth", classes, told, reading=GIVEN)
    assert body_is(model.network, state)
    same = classes == 7
    assert torch.equal(model.network.state_dict()["fc.weight"], state["fc.weight"]) == same
    anew = "its head (fc.bias, fc.weight) is another, of 7 outputs, and fc.bias, fc.weight are made"
    assert any(anew in line for line in told) != same


def test_a_head_made_anew_follows_the_seed(tmp_path: Path) -> None:
    save_file(state_of(7), tmp_path / "w.safetensors")
    heads = [
        read(tmp_path / "w.safetensors", seed=seed).network.state_dict()["fc.weight"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert heads[0].std() > 0


def test_a_head_of_another_name_or_none_is_made_anew(tmp_path: Path) -> None:
    state, told = state_of(7), list[str]()
    bare = {name: tensor for name, tensor in state.items() if name not in HEAD}
    torch.save(bare | {"classifier.1.weight": torch.ones(7, 16)}, tmp_path / "other.pt")
    assert body_is(read(tmp_path / "other.pt", 10, told).network, state)
    assert "its head (classifier.1.weight) is another" in told[0]
    torch.save(bare, tmp_path / "none.pt")
    assert body_is(read(tmp_path / "none.pt", 10, told).network, state)
    assert any("it has no head" in line for line in told)


@pytest.mark.parametrize("classes", [7, 10])
def test_a_body_that_does_not_fit_is_refused(classes: int, tmp_path: Path) -> None:
    state = state_of(7)
    torch.save(state | {"layer1.1.conv1.weight": torch.ones(4, 4, 3, 3)}, tmp_path / "deep.pt")
    with pytest.raises(InputError, match=r"1 are unknown \(network.layer1.1.conv1.weight\)"):
        read(tmp_path / "deep.pt", classes)
    torch.save({n: t for n, t in state.items() if n != "conv1.weight"}, tmp_path / "short.pt")
    with pytest.raises(InputError, match=r"1 weights are missing \(network.conv1.weight\)"):
        read(tmp_path / "short.pt", classes)
    torch.save(state_of(7) | {"conv1.weight": torch.ones(8, 3, 3, 3)}, tmp_path / "wide.pt")
    with pytest.raises(InputError, match=r"conv1.weight has shape"):
        read(tmp_path / "wide.pt", classes)


def test_a_deeper_network_without_its_head_is_no_head(tmp_path: Path) -> None:
    bare = {name: tensor for name, tensor in state_of(7).items() if name not in HEAD}
    torch.save(bare | {"layer1.1.conv1.weight": torch.ones(4, 4, 3, 3)}, tmp_path / "deep.pt")
    with pytest.raises(InputError, match="1 are unknown"):
        read(tmp_path / "deep.pt")


def test_the_normalisation_is_the_files_or_what_is_given(tmp_path: Path) -> None:
    state, told = state_of(10), list[str]()
    inside = {"0.mean": torch.full((1, 3, 1, 1), 0.4), "0.std": torch.full((1, 3, 1, 1), 0.2)}
    torch.save(inside | under("1.", state), tmp_path / "inside.pt")
    assert read(tmp_path / "inside.pt", told=told).normalise.mean.flatten().tolist() == (
        pytest.approx([0.4, 0.4, 0.4])
    )
    assert told == []
    torch.save(state, tmp_path / "bare.pt")
    assert read(
        tmp_path / "bare.pt", told=told, reading=GIVEN
    ).normalise.mean.flatten().tolist() == (pytest.approx([0.5, 0.4, 0.3]))
    assert told == []
    read(tmp_path / "bare.pt", told=told, reading=Reading(options="--"))
    assert "images in [0, 1] go in as they are" in told[0]
    assert "--mean and --std" in told[0]
    with pytest.raises(InputError, match=r"--mean and --std: .* holds its normalisation already"):
        read(tmp_path / "inside.pt", reading=GIVEN)


def test_torchvisions_description_is_taken_where_nobody_says_otherwise(tmp_path: Path) -> None:
    name, told = "squeezenet1_1", list[str]()
    torch.save(build(7, architecture=name).network.state_dict(), tmp_path / "w.pt")
    shape = (3, 32, 32)
    model = load_pretrained(tmp_path / "w.pt", name, shape, 10, tell=told.append)
    assert model.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert any("as its network's makers do (mean 0.485, 0.456, 0.406)" in line for line in told)
    assert described_normalisation("resnet8:4", 3) is None
    assert described_normalisation("resnet34", 1) is None


@needs_timm
def test_timms_description_and_head(tmp_path: Path) -> None:
    name, shape = "timm:vit_tiny_patch16_224", (3, 32, 32)
    assert set(head_of(name, shape)) == {"head.weight", "head.bias"}
    described = described_normalisation(name, 3)
    assert described is not None
    assert described[0].tolist() == pytest.approx([0.5, 0.5, 0.5])


@needs_timm
@pytest.mark.parametrize("name", ["timm:hf-hub:some/one", "timm:local-dir:/tmp", "timm:mobilnet"])
def test_only_names_that_timm_has_itself_are_handed_to_it(name: str) -> None:
    with pytest.raises(InputError, match="timm has no network"):
        build(10, architecture=name)


def test_heads_of_several_layers_are_found() -> None:
    assert set(head_of("squeezenet1_1", (3, 32, 32))) == {
        "classifier.1.weight",
        "classifier.1.bias",
    }
    assert set(head_of("mobilenet_v3_small", (3, 32, 32))) == {
        "classifier.3.weight",
        "classifier.3.bias",
    }


class NotTensors:
    """What `torch.save(model)` leaves beside tensors: an object of a class."""


def test_a_pickled_network_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save(NotTensors(), tmp_path / "whole.pt")
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        read(tmp_path / "whole.pt")
