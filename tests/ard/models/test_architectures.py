"""Architectures and the files that hold their weights, ours and published ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ard.models.architectures import (
    ARCHITECTURES,
    Classifier,
    PostActBlock,
    build_model,
    channel_statistics,
)
from ard.models.weight_files import load_model, load_published, save_model
from deploy.qat.strided import StridedConv2d, is_affected
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

CARD = ModelCard(architecture="resnet8:4", dataset="digits", classes=5, input_shape=(3, 8, 8))


def build(architecture: str, channels: int = 3, classes: int = 5) -> Classifier:
    torch.manual_seed(0)
    return build_model(
        architecture, channels, classes, torch.full((channels,), 0.4), torch.full((channels,), 0.2)
    )


def images(channels: int = 3, side: int = 16) -> Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if not n.startswith("wrn")])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_architecture_gives_one_logit_per_class(name: str, channels: int) -> None:
    model = build(name, channels).eval()
    assert model(images(channels)).shape == (2, 5)


@pytest.mark.parametrize("name", ["resnet8:4", "resnet20:15", *ARCHITECTURES])
def test_layers_whose_gradient_torch_gets_wrong_are_steered_around(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers:
        assert isinstance(layer.padding, tuple)
        affected = is_affected(layer.weight, layer.stride, layer.padding)  # type: ignore[arg-type]
        assert isinstance(layer, StridedConv2d) == affected
    # Stage 1 of two, whose width is the name's; the next is twice as wide.
    narrow = {"resnet8:4": 2, "resnet20:15": 1}.get(name, 0)
    assert sum(isinstance(layer, StridedConv2d) for layer in layers) == narrow


@pytest.mark.parametrize(
    ("name", "parameters"), [("wrn_28_10", 36.5e6), ("wrn_34_10", 46.2e6), ("resnet18", 11.2e6)]
)
def test_the_published_sizes(name: str, parameters: float) -> None:
    """Zagoruyko and Komodakis 2016, table 4; He et al. 2016."""
    with torch.device("meta"):
        model = ARCHITECTURES[name](3, 10, 0)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)


def test_a_width_scales_the_channels() -> None:
    narrow, wide = build("resnet8"), build("resnet8:32")
    assert narrow.network.get_parameter("conv1.weight").shape[0] == 16
    assert wide.network.get_parameter("conv1.weight").shape[0] == 32


def test_cifar_stems_keep_the_resolution() -> None:
    for name in ("resnet18", "mobilenet_v2"):
        network = build(name).network
        stem = "conv1.weight" if name == "resnet18" else "features.0.0.weight"
        assert network.get_parameter(stem).shape[2:] == (3, 3)
        assert network(images(side=32)).shape == (2, 5)


def test_torchvision_models_are_found_by_name() -> None:
    model = build("squeezenet1_1").eval()
    assert model(images(side=64)).shape == (2, 5)


def test_normalisation_is_the_first_layer() -> None:
    model = build("resnet8:4").eval()
    x = images()
    torch.testing.assert_close(model(x), model.network((x - 0.4) / 0.2))


def test_channel_statistics_are_those_of_the_pixels() -> None:
    levels = torch.randint(0, 256, (50, 3, 6, 6), dtype=torch.uint8)
    mean, std = channel_statistics(levels)
    pixels = levels.double() / 255
    torch.testing.assert_close(mean.double(), pixels.mean(dim=(0, 2, 3)), atol=1e-6, rtol=0)
    deviation = pixels.transpose(0, 1).reshape(3, -1).std(dim=1, unbiased=False)
    torch.testing.assert_close(std.double(), deviation, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "channels", "named"),
    [
        ("resnet9", 3, "expected one of"),
        ("resnet8:0", 3, "width from 1 to 1024"),
        ("resnet20:99999999", 3, "width from 1 to 1024, such as resnet20:32"),
        ("resnet8:" + "9" * 5000, 3, "width from 1 to 1024"),
        ("resnet8:x", 3, "width from 1 to 1024"),
        ("resnet18:32", 3, "take a width"),
        ("squeezenet1_1", 1, "3 channels"),
        ("", 3, "expected one of"),
    ],
)
def test_bad_architectures_are_named(name: str, channels: int, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build(name, channels)


def test_weights_and_card_survive_the_disk(tmp_path: Path) -> None:
    model = build("resnet8:4").eval()
    card = replace(CARD, recipe={"epsilon": 0.1, "loss": {"beta": 6.0}}, parent_sha256="ab")
    save_model(tmp_path / "m.safetensors", model, card, force=False)
    loaded, loaded_card = load_model(tmp_path / "m.safetensors")
    assert loaded_card == card
    assert torch.equal(loaded(images()), model(images()))
    assert not loaded.training


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(b"noise" * 100)


def remove(path: Path) -> None:
    path.unlink()


def other_architecture(path: Path) -> None:
    save_model(path, build("resnet8:8"), CARD, force=True)


def other_blocks(path: Path) -> None:
    save_model(path, build("resnet20"), CARD, force=True)


def other_classes(path: Path) -> None:
    save_model(path, build("resnet8:4", classes=7), CARD, force=True)


def without_card(path: Path) -> None:
    from safetensors.torch import save_file

    save_file(build("resnet8:4").state_dict(), path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, "damaged"),
        (empty, "empty file"),
        (noise, "damaged"),
        (remove, "no file there"),
        (other_architecture, "has shape"),
        (other_blocks, "not a checkpoint of resnet8:4"),
        (other_classes, "number of classes"),
        (without_card, "no model card"),
    ],
)
def test_a_file_that_is_no_model_gets_a_sentence(
    damage: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, build("resnet8:4"), CARD, force=False)
    damage(path)
    with pytest.raises(InputError, match=sentence) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_onnx_file_is_not_taken_for_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected weights written by ardx"):
        load_model(tmp_path / "student.onnx")


def published(architecture: str) -> tuple[Classifier, dict[str, Tensor]]:
    """A network without normalisation, and its weights under the names of the field's code."""
    model = build_model(architecture, 3, 10, torch.zeros(3), torch.ones(3)).eval()
    state = {n.removeprefix("network."): t for n, t in model.state_dict().items()}
    state = {n: t for n, t in state.items() if not n.startswith("normalise")}
    if architecture == "resnet18":
        state = {
            n.replace(".downsample.", ".shortcut.").replace("fc.", "linear."): t
            for n, t in state.items()
        }
    return model, state


@pytest.mark.parametrize("architecture", ["resnet18", "preact_resnet18"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": {f"module.{n}": t for n, t in state.items()}},
        lambda state: {"net": {f"module.model.{n}": t for n, t in state.items()}},
    ],
)
def test_published_names_load_and_compute_the_same(
    architecture: str, wrap: Callable[[dict[str, Tensor]], object], tmp_path: Path
) -> None:
    model, state = published(architecture)
    torch.save(wrap(state), tmp_path / "teacher.pt")
    loaded = load_published(tmp_path / "teacher.pt", architecture, 3, 10)
    x = images(side=32)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


def test_trades_names_of_the_wide_resnet_load(tmp_path: Path) -> None:
    """Names as in the published TRADES WRN-34-10, with the stage that its forward never calls."""
    model, state = published("wrn_34_10")
    assert {"block1.layer.0.convShortcut.weight", "block3.layer.4.bn2.weight", "fc.bias"} <= set(
        state
    )
    unused = {f"sub_block1.{n}": t for n, t in state.items() if n.startswith("layer.")}
    unused["sub_block1.layer.0.bn1.weight"] = torch.ones(16)
    torch.save({**state, **unused}, tmp_path / "model_cifar_wrn.pt")
    loaded = load_published(tmp_path / "model_cifar_wrn.pt", "wrn_34_10", 3, 10)
    x = images(side=8)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


def test_a_normalisation_inside_the_checkpoint_is_kept(tmp_path: Path) -> None:
    _, state = published("preact_resnet18")
    state |= {
        "mu": torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1),
        "sigma": torch.full((3, 1, 1), 0.2),
    }
    torch.save(state, tmp_path / "t.pt")
    loaded = load_published(tmp_path / "t.pt", "preact_resnet18", 3, 10)
    assert loaded.normalise.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert loaded.normalise.std.flatten().tolist() == pytest.approx([0.2] * 3)


def test_a_checkpoint_of_another_architecture_names_missing_weights(tmp_path: Path) -> None:
    _, state = published("preact_resnet18")
    torch.save(state, tmp_path / "t.pt")
    with pytest.raises(InputError, match=r"not a checkpoint of resnet18: \d+ weights are missing"):
        load_published(tmp_path / "t.pt", "resnet18", 3, 10)


def test_a_checkpoint_with_other_classes_is_refused(tmp_path: Path) -> None:
    _, state = published("preact_resnet18")
    torch.save(state, tmp_path / "t.pt")
    with pytest.raises(InputError, match="number of classes"):
        load_published(tmp_path / "t.pt", "preact_resnet18", 3, 100)


class Unsafe:
    """Something that a weights-only reader must not build."""


def test_a_checkpoint_with_code_inside_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Unsafe()}, tmp_path / "t.pt")
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        load_published(tmp_path / "t.pt", "resnet18", 3, 10)


def test_a_checkpoint_of_other_values_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "t.pt")
    with pytest.raises(InputError, match="state dict"):
        load_published(tmp_path / "t.pt", "resnet18", 3, 10)


def test_a_block_of_a_small_network_is_torchvisions_by_names_values_and_draws() -> None:
    from torchvision.models.resnet import BasicBlock

    torch.manual_seed(0)
    ours = PostActBlock(4, 4, 1, None).train()
    torch.manual_seed(0)
    theirs = BasicBlock(4, 4).train()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    images = torch.randn(2, 4, 6, 6)
    assert torch.equal(ours(images), theirs(images))


def test_a_small_network_is_opened_without_torchvision_and_torchs_compiler() -> None:
    """They take longer to import than torch itself."""
    program = (
        "import sys; from ard.attacks.victims import weights_victim; from pathlib import Path; "
        "import ard.learning.train; weights_victim(Path(sys.argv[1])); "
        "print([name for name in ('torchvision', 'torch._dynamo') if name in sys.modules])"
    )
    weights = Path(__file__).parents[3] / "weights/resnet8-32-cifar10-pgd_at.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", program, str(weights)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
