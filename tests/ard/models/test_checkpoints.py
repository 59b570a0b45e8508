"""Checkpoints in the shapes that training code leaves: each computes what its network did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ard.models.architectures import Classifier, build_model
from ard.models.checkpoints import Reading
from ard.models.weight_files import load_model, load_published, save_model
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

State = dict[str, Tensor]
ARCHITECTURE = "resnet8:4"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build(0).network


def build(seed: int) -> Classifier:
    torch.manual_seed(seed)
    return build_model(ARCHITECTURE, 3, 10, torch.zeros(3), torch.ones(3)).eval()


def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def read(path: Path, reading: Reading | None = None, told: list[str] | None = None) -> Classifier:
    tell = ([] if told is None else told).append
    return load_published(path, ARCHITECTURE, 3, 10, reading=reading or Reading(), tell=tell)


def under(prefix: str) -> Callable[[State], Any]:
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


def only(key: str) -> Callable[[State], Any]:
    return lambda state: {key: state, "epoch": 3}


def other() -> State:
    """Weights of the same network that would compute something else."""
    return build(1).network.state_dict()


SHAPES: dict[str, Callable[[State], Any]] = {
    "bare": under(""),
    "compiled": under("_orig_mod."),
    "compiled in DataParallel": under("module._orig_mod."),
    "DataParallel compiled": under("_orig_mod.module."),
    "net": under("net."),
    "backbone": under("backbone."),
    "Lightning": lambda s: {"state_dict": under("model.net.")(s), "epoch": 3, "callbacks": {}},
    "averaged": lambda s: {**under("module.")(s), "n_averaged": torch.tensor(7)},
    "averaged below a key": lambda s: {
        "swa_state_dict": {**under("module.")(s), "n_averaged": torch.tensor([7])}
    },
    "flat with an epoch": lambda s: {**s, "epoch": 76, "lr": 0.1, "name": "best"},
    "nested": lambda s: {"model": {"state_dict": s}, "optimizer": {"state": {0: {"m": s}}}},
    "nested thrice": lambda s: {"checkpoint": {"model": {"state_dict": s}}},
    "unheard of": lambda s: {"student_weights": s, "args": {"lr": 0.1}},
    "beside its optimiser": lambda s: {"optimizer": {"exp_avg": torch.ones(3)}, "params": s},
    "a counter as a tensor": lambda s: {"net": s | {"epoch": torch.tensor(3)}},
    **{
        f"only {key}": only(key) for key in ("ema", "model_ema", "ema_state_dict", "state_dict_ema")
    },
    "only ema, wrapped": lambda s: {"ema": {"module": s, "decay": 0.999}},
    "averages before plain ones": lambda s: {"ema": other(), "model": s},
    "averages in the same dict": lambda s: {
        **{f"model_ema.{name}": tensor for name, tensor in other().items()},
        **under("model.")(s),
    },
    "only averages, flat": under("ema_model."),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_checkpoint_computes_what_its_network_did(
    shape: str, network: nn.Module, tmp_path: Path
) -> None:
    torch.save(SHAPES[shape](dict(network.state_dict())), tmp_path / "t.pt")
    with torch.no_grad():
        assert torch.equal(read(tmp_path / "t.pt")(images()), network(images()))


def test_what_torchs_own_averaging_saves_is_read(network: nn.Module, tmp_path: Path) -> None:
    averaged = AveragedModel(nn.DataParallel(network))
    torch.save(averaged.state_dict(), tmp_path / "t.pt")
    with torch.no_grad():
        assert torch.equal(read(tmp_path / "t.pt")(images()), network(images()))


@pytest.mark.parametrize("flat", [False, True])
def test_a_key_chooses_between_plain_and_averaged_weights(
    flat: bool, network: nn.Module, tmp_path: Path
) -> None:
    state, path, told = dict(network.state_dict()), tmp_path / "t.pt", list[str]()
    torch.save(
        under("ema.")(state) | under("net.")(other()) if flat else {"net": other(), "ema": state},
        path,
    )
    with torch.no_grad():
        assert torch.equal(read(path, Reading(key="ema"), told)(images()), network(images()))
        assert told == []
        assert not torch.equal(read(path, told=told)(images()), network(images()))
    (sentence,) = told
    plain = "the top level" if flat else "'net'"
    assert f"at {plain}, which are taken, and at 'ema'; --teacher-key chooses" in sentence
    with pytest.raises(InputError, match=rf"--teacher-key emma: .* at {plain}, 'ema'"):
        read(path, Reading(key="emma"))


NAMES = [
    ("mean", "std"),
    ("mu", "sigma"),
    ("normalize.mean", "normalize.std"),
    ("normalise.mean", "normalise.std"),
    ("normalizer.mean", "normalizer.std"),
    ("module.normalizer.means", "module.normalizer.sds"),
    ("means", "sds"),
    ("0.mean", "0.std"),
    ("normalizer.new_mean", "normalizer.new_std"),
    ("_orig_mod.norm.mu", "_orig_mod.norm.sigma"),
]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def normalised(network: nn.Module) -> Tensor:
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    logits: Tensor = network((images() - mean) / std)
    return logits


@pytest.mark.parametrize("names", NAMES)
def test_a_normalisation_inside_is_used_whole_or_refused(
    names: tuple[str, str], network: nn.Module, tmp_path: Path
) -> None:
    state, path = dict(network.state_dict()), tmp_path / "t.pt"
    inside = {names[0]: torch.tensor(MEAN), names[1]: torch.tensor(STD).view(3, 1, 1)}
    torch.save(state | inside, path)
    with torch.no_grad():
        assert torch.equal(read(path)(images()), normalised(network))
    with pytest.raises(InputError, match=r"--teacher-mean and --teacher-std: .* already.*leave"):
        read(path, Reading(mean=MEAN, std=STD))
    for name, missing in zip(names, ("std", "mean"), strict=True):
        torch.save(state | {name: inside[name]}, path)
        with pytest.raises(InputError, match=rf"but no {missing}; .*--teacher-mean"):
            read(path)


def test_a_normalisation_can_be_given(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file({n: t.contiguous() for n, t in network.state_dict().items()}, path)
    with torch.no_grad():
        found = read(path, Reading(mean=MEAN, std=STD))(images())
        assert torch.equal(found, normalised(network))
    with pytest.raises(InputError, match=r"expected 3 values, one per channel.*came 1"):
        read(path, Reading(mean=(0.5,), std=(0.5,)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": MEAN}, "expected both"),
        ({"std": STD}, "expected both"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "expected finite"),
        ({"mean": (0.5,), "std": (0.0,)}, "above 0"),
    ],
)
def test_half_a_normalisation_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Reading(**values)


def with_first(state: State, tensor: Tensor) -> State:
    return state | {"conv1.weight": tensor}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: {0: s["conv1.weight"], 1: s["fc.bias"]}, "names are no text .keys 0, 1"),
        (lambda s: [1, 2], "a list"),
        (lambda s: {"epoch": 3, "args": {"lr": 0.1}}, "epoch, args.*state_dict()"),
        (lambda s: with_first(s, s["conv1.weight"].to_sparse()), "conv1.weight is a sparse"),
        (lambda s: with_first(s, s["conv1.weight"].to("meta")), "conv1.weight is a meta"),
        (lambda s: with_first(s, s["conv1.weight"] * torch.nan), "conv1.weight holds NaN"),
        (lambda s: with_first(s, s["conv1.weight"] / 0), "conv1.weight holds NaN or inf"),
        (lambda s: {"net.fc.bias": s["fc.bias"] + 1} | s, "fc.bias and fc.bias|would both be"),
        (lambda s: {"weights": s | {"odd": torch.ones(3)}}, "1 are unknown.*holds weights"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence(
    spoil: Callable[[State], Any], words: str, network: nn.Module, tmp_path: Path
) -> None:
    torch.save(spoil(dict(network.state_dict())), tmp_path / "t.pt")
    with pytest.raises(InputError, match=words) as refusal:
        read(tmp_path / "t.pt")
    assert str(refusal.value).startswith(str(tmp_path / "t.pt"))


def test_weights_of_ours_with_nan_are_named(tmp_path: Path) -> None:
    model = build(0)
    with torch.no_grad():
        model.network.get_parameter("fc.bias")[3] = torch.nan
    card = ModelCard(architecture=ARCHITECTURE, dataset="digits", classes=10, input_shape=(3, 8, 8))
    save_model(tmp_path / "w.safetensors", model, card, force=False)
    with pytest.raises(InputError, match=r"w.safetensors: network.fc.bias holds NaN or infinity"):
        load_model(tmp_path / "w.safetensors")
