"""Weights to start from: anyone's file of a network, with a head for the classes at hand."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchvision import models as torchvision_models

from ard.models.architectures import ARCHITECTURES, Classifier
from ard.models.checkpoints import AS_IT_IS, Reading, Tell, names_a_normalisation, say_nothing
from ard.models.imported import is_imported
from ard.models.sizes import shapes_of
from ard.models.timm_networks import is_timm, normalisation_of
from ard.models.weight_files import load_published


def load_pretrained(
    path: Path,
    architecture: str,
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    new_head: bool = True,
    seed: int = 0,
    reading: Reading = AS_IT_IS,
    tell: Tell = say_nothing,
) -> Classifier:
    """Read a file of weights in any shape that `load_published` knows; in eval mode and frozen.

    Images are normalised as the file, or else `reading`, or else timm's or torchvision's
    description of the network says; where nobody does, they go in as they are.

    Args:
        image_shape: (channels, height, width).
        new_head: whether a head of other classes is made anew; otherwise it is refused.
        seed: of the new head.
        tell: told what was chosen, or made anew.

    Raises:
        InputError: not a file of that architecture, or NaN or infinite weights.
    """
    channels, height, width = image_shape
    described = None if reading.mean else described_normalisation(architecture, channels)
    head = head_of(architecture, image_shape) if new_head else ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = load_published(
            path,
            architecture,
            channels,
            classes,
            image_size=(height, width),
            normalisation=described,
            head=head,
            reading=reading,
            tell=tell,
        )
    if reading.mean is None and not model.normalised_by_file:
        _tell_normalisation(model, described, path, reading, tell)
    return model


def head_of(architecture: str, image_shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Names of the weights whose shapes follow the number of classes."""
    two, three = (shapes_of(architecture, image_shape, classes) for classes in (2, 3))
    after = {name: tensor.shape for name, tensor in three.state_dict().items()}
    return tuple(
        name.removeprefix("network.")
        for name, tensor in two.state_dict().items()
        if after.get(name) != tensor.shape
    )


def described_normalisation(architecture: str, channels: int) -> tuple[Tensor, Tensor] | None:
    """Mean and deviation that timm or torchvision states for its own weights of a network."""
    if is_timm(architecture):
        mean, std = normalisation_of(architecture)
    elif architecture.partition(":")[0] in ARCHITECTURES or is_imported(architecture):
        return None
    else:
        published = next(iter(torchvision_models.get_model_weights(architecture)), None)
        if published is None:
            return None
        described = published.transforms()
        mean, std = tuple(described.mean), tuple(described.std)
    if len(mean) != channels:
        return None
    return torch.tensor(mean), torch.tensor(std)


def _tell_normalisation(
    model: Classifier,
    described: tuple[Tensor, Tensor] | None,
    path: Path,
    reading: Reading,
    tell: Tell,
) -> None:
    """Say where a normalisation was taken for granted, or is missing."""
    mean, std = (getattr(model.normalise, name).flatten() for name in ("mean", "std"))
    if described is not None and torch.equal(mean, described[0]) and torch.equal(std, described[1]):
        told = ", ".join(f"{value:g}" for value in mean.tolist())
        tell(
            f"{path}: holds no normalisation, and images are normalised as its network's makers "
            f"do (mean {told}); {reading.both} say otherwise"
        )
    elif not mean.any() and not any(map(names_a_normalisation, model.network.state_dict())):
        tell(
            f"{path}: holds no normalisation, and images in [0, 1] go in as they are; if it was "
            f"trained on others, give {reading.both}"
        )
