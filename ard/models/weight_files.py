"""Weights on disk: our safetensors with a model card inside, and published `.pt` checkpoints."""

from __future__ import annotations

import json
import re
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ard.models.architectures import Classifier, build_model
from ard.models.checkpoints import (
    AS_IT_IS,
    Reading,
    Tell,
    Weights,
    choose,
    contents,
    require_finite,
    say_nothing,
    with_new_head,
)
from ard.models.imported import check_source, is_imported
from ard.models.published.checkpoints import CLASSES, KnownTeacher
from ard.models.seals import sealed, unsealed
from ard.models.sizes import shapes_of
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.spec import ModelCard
from edge_bench.core.version import __version__
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.onnx_file import CARD_KEY, card_of
from edge_bench.files.store import atomic_file, require_file, sha256_file

SETTINGS_KEY = "config"
"""Of a training checkpoint: its settings."""

# These are torchvision's; the field's CIFAR code has other names for two of their parts.
FROM_TORCHVISION = ("resnet18", "resnet50_cifar")
RENAMED_FOR_TORCHVISION = ((".shortcut.", ".downsample."), ("linear.", "fc."))
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


class NotOfArchitectureError(InputError):
    """Weights that are not of an architecture."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str], force: bool
) -> None:
    """Write tensors and text metadata as one safetensors file, atomically, with a hash of both."""
    contiguous: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in tensors.items():
        kept = tensor.detach().cpu().contiguous()
        # The format has no tensor that shares its memory, as tied weights do, with another.
        place = kept.untyped_storage().data_ptr()
        contiguous[name] = kept.clone() if place in stored else kept
        stored.add(place)
    with atomic_file(path, force) as partial:
        partial.write_bytes(save(contiguous, sealed(contiguous, metadata, _sealed_in(metadata))))


def load_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: tensors and metadata.

    Raises:
        InputError: missing, truncated, of another format, or not what `save_tensors` wrote.
    """
    require_file(path, what)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:
        # Of a damaged header: safetensors' own, and whatever torch says of a type or a shape.
        raise InputError(
            f"{path}: expected {what} (safetensors), but it is damaged or of another format "
            f"({first_line(error)}); make it again"
        ) from None
    return tensors, unsealed(tensors, metadata, _sealed_in(metadata), path)


def _sealed_in(metadata: Mapping[str, str]) -> str:
    """The entry that the hash lies in: the card of weights, or the settings of a checkpoint."""
    return CARD_KEY if CARD_KEY in metadata else SETTINGS_KEY


def save_model(path: Path, model: nn.Module, card: ModelCard, force: bool) -> None:
    """Write a classifier with its card."""
    text = json.dumps(asdict(replace(card, ardx_version=__version__)))
    save_tensors(path, model.state_dict(), {CARD_KEY: text}, force)


def load_state(model: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Give `model` the weights of a state dict that has been on disk.

    A layer keeps the version of its form beside its weights, and may refuse weights that come
    without one (torchvision's MNASNet does). A file holds tensors alone, so that the version is
    taken to be the model's own; names and shapes of another would not fit.

    Raises:
        RuntimeError: missing, unknown (unless not `strict`) or misshapen weights.
    """
    state = OrderedDict(tensors)
    # Where torch itself looks for them: an attribute of the dict that `state_dict` returns.
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=strict)


def load_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """Read what `save_model` wrote, in eval mode and frozen.

    Example:
        model, card = load_model(Path("student/student.safetensors"))

    Weights that were trained as INT8 come as the network that rounds them.

    Raises:
        InputError: not such a file, or weights that are not the card's architecture.
    """
    if path.is_dir():
        raise InputError(
            f"{path}: expected weights written by ardx, found a folder; name the .safetensors file "
            "in it"
        )
    if kind_of(path) is not Kind.WEIGHTS:
        raise InputError(
            f"{path}: expected weights written by ardx (.safetensors), found a "
            f"{path.suffix or 'file without suffix'}; a published checkpoint is given as "
            "--teacher with --teacher-arch"
        )
    tensors, metadata = load_tensors(path, "weights written by ardx")
    if "epochs_done" in metadata:
        raise InputError(
            f"{path}: expected weights, found a checkpoint to resume from; name the finished "
            "weights beside it"
        )
    if CARD_KEY not in metadata:
        raise InputError(
            f"{path}: holds no model card, so it was not written by ardx; give it as --teacher "
            "with --teacher-arch, or train it here"
        )
    card = card_of(metadata[CARD_KEY], str(path))
    require_finite(tensors, path)
    model: nn.Module
    if card.recipe.get("qat"):
        model = _quantised(path, tensors, card.recipe["qat"])
    else:
        model = _of_card(path, card, tensors)
        _load_strictly(model, tensors, path, card.architecture)
    return model.eval().requires_grad_(False), card


def card_inside(path: Path) -> ModelCard | None:
    """The card of weights that ardx wrote; None of any other file.

    Raises:
        InputError: damaged.
    """
    if path.suffix != ".safetensors":
        return None
    metadata = load_tensors(path, "weights")[1]
    return card_of(metadata[CARD_KEY], str(path)) if CARD_KEY in metadata else None


def _of_card(path: Path, card: ModelCard, tensors: Mapping[str, Tensor]) -> Classifier:
    """The card's network, made once its shapes are known to be those of the file.

    Raises:
        InputError: no network, or none of those weights.
    """
    channels, height, width = card.input_shape
    mean = tensors.get("normalise.mean")
    if mean is not None and mean.numel() != channels:
        raise InputError(
            f"{path}: its model card says {channels} channels, but it normalises {mean.numel()}; "
            "make it again"
        )
    if is_imported(card.architecture):
        # Its function makes what it makes: there is nothing to compare before.
        check_source(str(path), card.architecture, card.recipe.get("source_sha256"))
    try:
        if not is_imported(card.architecture):
            own = shapes_of(card.architecture, card.input_shape, card.classes).state_dict()
            _require_fitting(own, tensors, path, card.architecture)
        return _empty(card.architecture, channels, card.classes, (height, width))
    except NotOfArchitectureError:
        raise
    except (
        *(InputError, ValueError, TypeError, OverflowError),
        *(RuntimeError, AssertionError),
    ) as error:
        raise InputError(f"{path}: its model card is of no network: {first_line(error)}") from None


def _quantised(path: Path, tensors: Mapping[str, Tensor], target: str) -> nn.Module:
    # Not at the top: onnxruntime's quantiser takes a second, and float weights do without.
    from deploy.qat.qdq_network import QDQNetwork

    return QDQNetwork.of_state(tensors, target, str(path))


def load_known(
    path: Path,
    teacher: KnownTeacher,
    reading: Reading = AS_IT_IS,
    tell: Tell = say_nothing,
) -> tuple[Classifier, str]:
    """Read a downloaded file of a known teacher; give the classifier and the file's sha256.

    Raises:
        InputError: missing, or of another architecture.
    """
    require_file(path, f"the checkpoint {teacher.name}")
    sha256 = sha256_file(path)
    model = load_published(
        path,
        teacher.architecture,
        len(teacher.mean),
        CLASSES[teacher.dataset],
        normalisation=(torch.tensor(teacher.mean), torch.tensor(teacher.std)),
        unused=teacher.unused,
        reading=reading,
        tell=tell,
    )
    return model, sha256


def load_published(
    path: Path,
    architecture: str,
    channels: int,
    classes: int,
    *,
    image_size: tuple[int, int] | None = None,
    normalisation: tuple[Tensor, Tensor] | None = None,
    unused: tuple[str, ...] = (),
    head: Collection[str] = (),
    reading: Reading = AS_IT_IS,
    tell: Tell = say_nothing,
) -> Classifier:
    """Read a published robust checkpoint (`.pt`, `.pth` or safetensors) into an architecture.

    Its weights are found and freed of wrappers as `checkpoints.choose` does it; names that begin
    with one of `unused` are left out, as are torchvision's auxiliary classifiers, which only its
    own training reads. A normalisation that the checkpoint holds is kept; otherwise that of
    `reading` or `normalisation` (mean and standard deviation) stands in, and without it inputs in
    [0, 1] go in as they are, as in TRADES and most robust models. `image_size` as in `build_model`.
    `head` names weights that stay as they are made where those of the file do not fit.

    Raises:
        InputError: not a checkpoint of that architecture or number of classes; NaN or infinite
            weights; a normalisation that is there by half, or twice.
    """
    data = load_tensors(path, "weights")[0] if path.suffix == ".safetensors" else _load_pt(path)
    given = reading.normalisation(channels)
    model = _empty(architecture, channels, classes, image_size, given or normalisation)
    # TRADES' WRN carries a stage that its forward pass never calls.
    left_out = ("sub_block1.", *unused, *AUXILIARY.get(architecture, ()))

    def our_name(name: str) -> str | None:
        if architecture in FROM_TORCHVISION:
            for theirs, ours in RENAMED_FOR_TORCHVISION:
                name = name.replace(theirs, ours)
        return None if name.startswith(left_out) else name

    own = model.network.state_dict()
    weights = choose(data, own, our_name, path, reading, tell)
    require_finite(weights.tensors, path)
    tensors = with_new_head(weights.tensors, own, head, path, tell) if head else weights.tensors
    state = {f"network.{name}": tensor for name, tensor in tensors.items()}
    state |= _normalisation(weights, model, path, reading)
    model.normalised_by_file = weights.mean is not None
    _load_strictly(model, state, path, architecture, f"; the file holds {contents(data)}")
    return model.eval().requires_grad_(False)


def _normalisation(
    weights: Weights, model: Classifier, path: Path, reading: Reading
) -> dict[str, Tensor]:
    """That of the file, or what the model was built with."""
    inside = {"mean": weights.mean, "std": weights.std}
    found = {name: tensor for name, tensor in inside.items() if tensor is not None}
    if len(found) == 1:
        (there,) = found
        missing = "std" if there == "mean" else "mean"
        raise InputError(
            f"{path}: holds the {there} of a normalisation, but no {missing}; add a tensor "
            f"normalize.{missing} to its state dict, or save it without the {there} and give both "
            f"as {reading.both}"
        )
    if found and reading.mean is not None:
        raise InputError(
            f"{reading.both}: {path} holds its normalisation already, and images would be "
            "normalised otherwise than in its training; leave both out"
        )
    for name, tensor in found.items():
        if _sort(tensor) != "float":
            raise InputError(
                f"{path}: the {name} of its normalisation holds {_type(tensor)}, expected float32; "
                "save it as it was trained"
            )
    require_finite(found, path)
    if found and not bool((found["std"] > 0).all()):
        raise InputError(f"{path}: the std of its normalisation is not above 0; is it the file's?")
    channels = model.normalise.mean.numel()
    return {
        f"normalise.{name}": (
            tensor.reshape(1, -1, 1, 1).expand(1, channels, 1, 1)
            if tensor.numel() == 1
            else tensor.reshape(1, -1, 1, 1)
        )
        for name, tensor in (found or dict(model.normalise.state_dict())).items()
    }


def _empty(
    architecture: str,
    channels: int,
    classes: int,
    image_size: tuple[int, int] | None = None,
    normalisation: tuple[Tensor, Tensor] | None = None,
) -> Classifier:
    mean, std = normalisation or (torch.zeros(channels), torch.ones(channels))
    return build_model(architecture, channels, classes, mean, std, image_size)


def _load_pt(path: Path) -> Any:
    require_file(path, "a checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Of sparse tensors, refused later.
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises a dozen unrelated types for damaged or unsafe files.
        raise InputError(
            f"{path}: cannot be read as tensors alone ({type(error).__name__}): damaged, or "
            "it holds other objects; save its state dict by itself or as safetensors"
        ) from None


def _load_strictly(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    path: Path,
    architecture: str,
    holds: str = "",
) -> None:
    """Load a state dict, or say in one sentence which names or shapes do not fit."""
    _require_fitting(model.state_dict(), tensors, path, architecture, holds)
    load_state(model, tensors, strict=False)


def _require_fitting(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    path: Path,
    architecture: str,
    holds: str = "",
) -> None:
    counters = re.compile(r"num_batches_tracked$")
    missing = [n for n in own if n not in tensors and not counters.search(n)]
    unexpected = [n for n in tensors if n not in own and not counters.search(n)]
    if missing or unexpected:
        raise NotOfArchitectureError(
            f"{path}: not a checkpoint of {architecture}: {len(missing)} weights are missing "
            f"({_some(missing)}) and {len(unexpected)} are unknown ({_some(unexpected)}); "
            f"give the architecture that it was trained as{holds}"
        )
    for name, tensor in tensors.items():
        if name in own and _sort(own[name]) != _sort(tensor) and not counters.search(name):
            raise NotOfArchitectureError(
                f"{path}: {name} holds {_type(tensor)}, expected {_type(own[name])} for "
                f"{architecture}: casting would give other weights; save it as it was trained"
            )
        if name in own and own[name].shape != tensor.shape:
            raise NotOfArchitectureError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(own[name].shape)} for {architecture}; is it of another width, another "
                "number of classes or another image size?"
            )


def _sort(tensor: Tensor) -> str:
    """What one tensor shares with another that it can be cast to without losing what it is."""
    if tensor.is_complex():
        return "complex"
    return "float" if tensor.is_floating_point() else "integer"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3]) or "none"
    return shown + (", ..." if len(names) > 3 else "")
