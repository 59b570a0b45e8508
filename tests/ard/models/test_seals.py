"""Files of tensors carry a hash: damaged ones are refused, older ones load as they did."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ard.learning.run_state import Run, read_checkpoint
from ard.models.architectures import build_model
from ard.models.seals import SEAL
from ard.models.weight_files import load_model, load_published, load_tensors, save_model
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from tests.ard.conftest import small_config

CARD = ModelCard(
    architecture="resnet8:2",
    dataset="digits",
    classes=10,
    input_shape=(1, 8, 8),
    recipe={"beta": 6},
)
FLIPS = 300
"""In a header, where every byte means something else; the rest is hashed as one."""


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("resnet8:2", 1, 10, torch.zeros(1), torch.ones(1)).eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_model(path, network(), CARD, force=False)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    config = small_config(architecture="resnet8:2")
    Run(config, network()).save(path, config)
    return path


def content(path: Path) -> tuple[object, object]:
    if path.name.startswith("checkpoint"):
        tensors, metadata = read_checkpoint(path)
        return {name: t.numpy().tobytes() for name, t in tensors.items()}, metadata
    model, card = load_model(path)
    return {name: t.numpy().tobytes() for name, t in model.state_dict().items()}, asdict(card)


def flipped(path: Path, place: int, bit: int) -> Path:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["weights", "checkpoint"])
@pytest.mark.parametrize("in_header", [True, False])
def test_flipped_files_are_refused_or_are_the_same(
    kind: str, in_header: bool, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(kind)
    whole, sound = path.read_bytes(), content(path)
    header = 8 + int.from_bytes(whole[:8], "little")
    draw = random.Random(0)
    refused: list[str] = []
    flips = FLIPS if in_header else 60
    for _ in range(flips):
        path.write_bytes(whole)
        place = draw.randrange(header) if in_header else draw.randrange(header, len(whole))
        try:
            found = content(flipped(path, place, draw.randrange(8)))
        except InputError as refusal:
            refused.append(str(refusal))
        else:
            assert found == sound or (kind == "checkpoint" and in_header and found[0] == sound[0])
    assert all(sentence.startswith(f"{path}: ") for sentence in refused)
    assert len(refused) > 0.9 * flips
    assert in_header or len(refused) == flips


def test_the_refusal_names_file_and_remedy(weights: Path) -> None:
    flipped(weights, len(weights.read_bytes()) - 1, 0)
    with pytest.raises(
        InputError, match=r"w\.safetensors: its content is not what was written .* or make it again"
    ):
        load_model(weights)


def test_the_same_weights_are_the_same_file(tmp_path: Path) -> None:
    """As without a seal; safetensors writes several entries of metadata in any order."""
    for name in "abcdefgh":
        save_model(tmp_path / name, network(), CARD, force=False)
    assert len({(tmp_path / name).read_bytes() for name in "abcdefgh"}) == 1


def test_files_without_a_seal_load(weights: Path) -> None:
    tensors, metadata = load_tensors(weights, "weights")
    save_file(tensors, weights, metadata)
    assert SEAL.encode() not in weights.read_bytes()
    assert load_model(weights)[1] == CARD


@pytest.mark.parametrize("cast", [Tensor.int, lambda t: t.to(torch.complex64)])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_another_type_are_not_cast(
    cast: Callable[[Tensor], Tensor], suffix: str, tmp_path: Path
) -> None:
    state = network().get_submodule("network").state_dict()
    state["fc.weight"] = cast(state["fc.weight"])
    path = tmp_path / f"t{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(InputError, match=r"fc\.weight holds (int32|complex64), expected float32"):
        load_published(path, "resnet8:2", 1, 10)


def test_a_card_nested_too_deep_is_one_sentence(weights: Path) -> None:
    tensors, _ = load_tensors(weights, "weights")
    for text in ("[" * 100_000, '{"classes": ' + "9" * 5000 + "}"):
        save_file(tensors, weights, {"ardx_card": text})
        with pytest.raises(InputError, match=r"w\.safetensors: its model card .* is not JSON"):
            load_model(weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 1 << 20},
        {"architecture": "resnet8:100000"},
        {"architecture": "resnet8:" + "9" * 5000},
        {"input_shape": (10**9, 8, 8)},
        {"recipe": {"epsilon": float("nan")}},
    ],
)
def test_a_card_of_another_network_is_refused_before_that_is_made(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    save_model(tmp_path / "w.safetensors", network(), replace(CARD, **changes), force=False)
    with pytest.raises(InputError, match=r"w\.safetensors: "):
        load_model(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["mean", "net.fc.weight"])
@pytest.mark.parametrize("change", [Tensor.to_sparse, lambda t: t.to("meta")])
def test_sparse_and_meta_tensors_are_refused_wherever_they_lie(
    name: str, change: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    state = network().get_submodule("network").state_dict()
    state |= {"std": torch.ones(1), "mean": torch.zeros(1)}
    state[name] = change(torch.ones(1))
    torch.save(state, tmp_path / "t.pt")
    with pytest.raises(InputError, match=r"is a (sparse|meta) tensor"):
        load_published(tmp_path / "t.pt", "resnet8:2", 1, 10)
