"""torchvision's classifiers with ways of their own: a version of weights, more than one output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

from ard.data.splits import Dataset, Split
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.learning.teacher import load_teacher
from ard.models.architectures import build_model
from ard.models.weight_files import load_model, load_published, save_model
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

from ..conftest import small_config


def noise(side: int, classes: int = 2) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, side, side), generator=generator)
        return Split(images.to(torch.uint8), torch.arange(count) % classes)

    return Dataset(name="noise", train=split(40), test=split(8), classes=classes, flips=False)


def one_step(architecture: str, **changes: object) -> TrainConfig:
    settings: dict[str, object] = {"epochs": 1, "batch_size": 32, "method": "natural"}
    settings["learning_rate"] = 0.01
    return small_config(architecture=architecture, inner_steps=1, **(settings | changes))


def written(architecture: str, path: Path, side: int = 32) -> nn.Module:
    torch.manual_seed(0)
    mean, std = torch.full((3,), 0.4), torch.full((3,), 0.2)
    model = build_model(architecture, 3, 2, mean, std, (side, side)).eval()
    card = ModelCard(
        architecture=architecture, dataset="noise", classes=2, input_shape=(3, side, side)
    )
    save_model(path, model, card, force=False)
    return model


def test_a_transformer_is_built_for_the_size_on_the_card(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = written("vit_b_32", path)
    assert model.get_parameter("network.encoder.pos_embedding").shape == (1, 1 + 1, 768)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_model(path)[0](x), model(x))


def test_a_card_with_a_size_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    card = ModelCard(architecture="vit_b_32", dataset="noise", classes=2, input_shape=(3, 50, 50))
    save_model(path, nn.Linear(1, 1), card, force=False)
    with pytest.raises(InputError, match=r"m.safetensors: .*vit_b_32.*indivisible"):
        load_model(path)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_published_file_with_auxiliary_classifiers_loads(name: str, tmp_path: Path) -> None:
    """As torchvision trains and publishes them, and as their users fine-tune them."""
    torch.manual_seed(0)
    whole = torchvision_models.get_model(
        name, weights=None, num_classes=2, aux_logits=True, init_weights=True
    ).eval()
    torch.save(whole.state_dict(), tmp_path / "t.pth")
    loaded = load_published(tmp_path / "t.pth", name, 3, 2)
    x = torch.rand(1, 3, 75, 75)
    with torch.no_grad():
        assert torch.equal(loaded(x), whole(x))


def test_sizes_are_refused_before_anything_is_trained_or_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"alexnet: .*8x8.*63x63"):
        learn(one_step("alexnet"), noise(8), None, tmp_path / "out" / "m.safetensors")
    assert not (tmp_path / "out").exists()


def test_one_class_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected 2 to 1048576 classes, came 1"):
        learn(one_step("resnet8:4"), noise(8, classes=1), None, tmp_path / "m.safetensors")


def test_a_teacher_that_cannot_take_the_images_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "t.pth")
    with pytest.raises(InputError, match=r"--teacher-arch alexnet: .*8x8.*63x63"):
        load_teacher(tmp_path / "t.pth", "alexnet", noise(8))
