"""Architectures by name. Inputs are images in [0, 1]; normalisation is the first layer.

A name may carry a width: `resnet8:32` has 32 base channels instead of 16. To add one: a builder
and an entry in ARCHITECTURES. `timm:NAME` is a network of timm's, `PACKAGE.MODULE:FUNCTION` what a
function of the user's makes; any other name is looked up among torchvision's classifiers.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ard.models.imported import imported_network, is_imported
from ard.models.published.swish_resnets import SwishPreActResNet18, SwishWideResNet
from ard.models.published.wide_resnets import WideResNet
from ard.models.timm_networks import has_size, is_timm, timm_network
from deploy.qat.strided import mend
from edge_bench.core.errors import InputError, first_line


class SizeError(InputError):
    """An architecture that is built for an image size cannot be built for this one."""


class Normalise(nn.Module):
    """Per-channel (x - mean) / std of images (B, C, H, W) in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).clone())
        self.register_buffer("std", std.reshape(1, -1, 1, 1).clone())

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """Images (B, C, H, W) in [0, 1] to logits (B, classes).

    Attributes:
        normalised_by_file: whether a file of others' held the normalisation, which no one chooses.
    """

    normalised_by_file: bool = False

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        mend(network)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalise(images))
        return logits


class PostActBlock(nn.Module):
    """Residual block of He et al. 2016 ("Deep residual learning", fig. 2), by torchvision's names.

    Not torchvision's own: to import it takes two seconds, which small networks start without.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        residual: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        residual += shortcut
        output: Tensor = self.relu(residual)
        return output


class SmallResNet(nn.Module):
    """ResNet-(6n+2) of He et al. 2016, section 4.2, with projection shortcuts."""

    def __init__(self, blocks: int, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _basic_stage(width, width, blocks, stride=1)
        self.layer2 = _basic_stage(width, 2 * width, blocks, stride=2)
        self.layer3 = _basic_stage(2 * width, 4 * width, blocks, stride=2)
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _basic_stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
    first = PostActBlock(inputs, outputs, stride, downsample)
    others = (PostActBlock(outputs, outputs, 1, None) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)


class PreActBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016, "Identity mappings", fig. 4e).

    Where a projection stands in for the identity, it reads the activated input, or (`projects_raw`)
    the block's input as it is: both are published under the same names and shapes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, projects_raw: bool) -> None:
        super().__init__()
        self.projects_raw = projects_raw
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        skip = x
        if self.projects:
            skip = self.shortcut(x if self.projects_raw else active)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)))) + skip
        return out


class PreActResNet18(nn.Module):
    """PreAct ResNet-18 with a CIFAR stem, under the names that published checkpoints use.

    As the paper has it, a normalisation and a ReLU end the last stage (`ends_activated`); a widely
    copied version leaves them out.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        projects_raw: bool = False,
        ends_activated: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        widths = (64, 128, 256, 512)
        inputs = 64
        for index, outputs in enumerate(widths, start=1):
            stage = nn.Sequential(
                PreActBlock(inputs, outputs, 1 if index == 1 else 2, projects_raw),
                PreActBlock(outputs, outputs, 1, projects_raw),
            )
            self.add_module(f"layer{index}", stage)
            inputs = outputs
        self.bn = nn.BatchNorm2d(512) if ends_activated else None
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for index in range(1, 5):
            x = self.get_submodule(f"layer{index}")(x)
        if self.bn is not None:
            x = F.relu(self.bn(x))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _torchvision_models() -> Any:
    """Imported where a network is one of torchvision's: it brings all of torch's compiler."""
    from torchvision import models

    return models


def _cifar_resnet(name: str, channels: int, classes: int) -> nn.Module:
    """torchvision's ResNet with the CIFAR stem: a 3x3 convolution and no pooling."""
    network: nn.Module = _torchvision_models().get_model(name, weights=None, num_classes=classes)
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _mobilenet_v2(channels: int, classes: int) -> nn.Module:
    """torchvision's MobileNetV2 with a CIFAR stem: stride 1 in the stem and the first stages."""
    # Columns of Sandler et al. 2018, table 2: expansion, channels, repeats, stride.
    stages = [
        [1, 16, 1, 1],
        [6, 24, 2, 1],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    network: nn.Module = _torchvision_models().mobilenet_v2(
        weights=None, num_classes=classes, inverted_residual_setting=stages
    )
    stem = network.get_submodule("features.0")
    assert isinstance(stem, nn.Sequential)
    stem[0] = nn.Conv2d(channels, 32, 3, padding=1, bias=False)
    return network


Builder = Callable[[int, int, int], nn.Module]
"""(channels, classes, width) to a network without normalisation."""

ARCHITECTURES: dict[str, Builder] = {
    "resnet8": lambda channels, classes, width: SmallResNet(1, channels, classes, width),
    "resnet20": lambda channels, classes, width: SmallResNet(3, channels, classes, width),
    "resnet18": lambda channels, classes, _: _cifar_resnet("resnet18", channels, classes),
    # Plain resnet50 is torchvision's, with the stem for large images.
    "resnet50_cifar": lambda channels, classes, _: _cifar_resnet("resnet50", channels, classes),
    "preact_resnet18": lambda channels, classes, _: PreActResNet18(channels, classes),
    "preact_resnet18_raw": lambda channels, classes, _: PreActResNet18(
        channels, classes, projects_raw=True
    ),
    "preact_resnet18_bn": lambda channels, classes, _: PreActResNet18(
        channels, classes, ends_activated=True
    ),
    "preact_resnet18_swish": lambda channels, classes, _: SwishPreActResNet18(channels, classes),
    "mobilenet_v2": lambda channels, classes, _: _mobilenet_v2(channels, classes),
    "wrn_28_10": lambda channels, classes, _: WideResNet(28, 10, channels, classes),
    "wrn_34_10": lambda channels, classes, _: WideResNet(34, 10, channels, classes),
    "wrn_34_20": lambda channels, classes, _: WideResNet(34, 20, channels, classes),
    "wrn_70_16": lambda channels, classes, _: WideResNet(70, 16, channels, classes),
    "wrn_28_10_swish": lambda channels, classes, _: SwishWideResNet(28, 10, channels, classes),
    "wrn_34_10_swish": lambda channels, classes, _: SwishWideResNet(34, 10, channels, classes),
    "wrn_34_20_swish": lambda channels, classes, _: SwishWideResNet(34, 20, channels, classes),
    "wrn_70_16_swish": lambda channels, classes, _: SwishWideResNet(70, 16, channels, classes),
    "wrn_82_8_swish": lambda channels, classes, _: SwishWideResNet(82, 8, channels, classes),
    "wrn_94_16_swish": lambda channels, classes, _: SwishWideResNet(94, 16, channels, classes),
}
DEFAULT_WIDTHS = {"resnet8": 16, "resnet20": 16}
MOST_WIDTH = 1024


def build_model(
    architecture: str,
    channels: int,
    classes: int,
    mean: Tensor,
    std: Tensor,
    image_size: tuple[int, int] | None = None,
) -> Classifier:
    """A freshly initialised classifier; torch's global seed decides the weights.

    Args:
        architecture: `resnet8:32`, a name of torchvision's, `timm:NAME`, or
            `PACKAGE.MODULE:FUNCTION`, which is imported and called with the number of classes.
        image_size: (height, width) for the architectures whose weights depend on it (vit_b_16,
            maxvit_t); None builds them for their own, 224x224 mostly.

    Raises:
        SizeError: an architecture that cannot be built for `image_size`.
        InputError: unknown architecture, a width where there is none, or wrong channels.
    """
    return Classifier(_network(architecture, channels, classes, image_size), mean, std)


def _network(
    architecture: str, channels: int, classes: int, image_size: tuple[int, int] | None
) -> nn.Module:
    """The network of an architecture's text, without normalisation."""
    name, _, width_text = architecture.partition(":")
    if name in ARCHITECTURES:
        return ARCHITECTURES[name](channels, classes, _width(architecture))
    if is_timm(architecture):
        try:
            return timm_network(architecture, channels, classes, image_size)
        except (ValueError, AssertionError, RuntimeError, TypeError) as error:
            raise SizeError(f"architecture {architecture}: {first_line(error)}") from None
    if is_imported(architecture):
        return imported_network(architecture, classes)
    if width_text:
        raise InputError(
            f"architecture {architecture}: only {', '.join(DEFAULT_WIDTHS)} take a width; write "
            f"{name}, timm:NAME, or PACKAGE.MODULE:FUNCTION for a function of yours"
        )
    return _torchvision_network(name, channels, classes, image_size)


def _width(architecture: str) -> int:
    """Base channels of one of ours; 0 where it has no such choice."""
    name, colon, text = architecture.partition(":")
    if colon and name not in DEFAULT_WIDTHS:
        raise InputError(
            f"architecture {architecture}: only {', '.join(DEFAULT_WIDTHS)} take a width; "
            f"write {name}"
        )
    digits = len(str(MOST_WIDTH))
    if colon and not (text.isdecimal() and len(text) <= digits and 0 < int(text) <= MOST_WIDTH):
        raise InputError(
            f"architecture {name}:{text[:20]}: expected a width from 1 to {MOST_WIDTH}, such as "
            f"{name}:32"
        )
    return int(text) if text else DEFAULT_WIDTHS.get(name, 0)


def _torchvision_network(
    name: str, channels: int, classes: int, image_size: tuple[int, int] | None
) -> nn.Module:
    models = _torchvision_models()
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(
            f"architecture {name}: expected one of {', '.join(ARCHITECTURES)}, the name of a "
            "torchvision classifier, timm:NAME, or PACKAGE.MODULE:FUNCTION of yours"
        )
    if channels != 3:
        raise InputError(
            f"architecture {name}: torchvision's models read 3 channels, the dataset has "
            f"{channels}; choose one of {', '.join(ARCHITECTURES)}"
        )
    # Logits alone, in training too; and the initialisation that torchvision warns to state.
    settings: dict[str, object] = {"aux_logits": False, "init_weights": True}
    if image_size is not None:
        settings |= {"image_size": image_size[0], "input_size": image_size}
    known_settings = _settings_of(name)
    try:
        network: nn.Module = models.get_model(
            name,
            weights=None,
            num_classes=classes,
            **{key: value for key, value in settings.items() if key in known_settings},
        )
    except (ValueError, AssertionError) as error:
        raise SizeError(f"architecture {name}: {first_line(error)}") from None
    return network


def has_sizes(architecture: str) -> bool:
    """Whether the weights of an architecture depend on the image size."""
    if architecture.partition(":")[0] in ARCHITECTURES or is_imported(architecture):
        return False
    if is_timm(architecture):
        return has_size(architecture)
    return bool(_settings_of(architecture) & {"image_size", "input_size"})


def _settings_of(name: str) -> set[str]:
    """Parameters of the class of a torchvision classifier: its function hands them on unnamed."""
    builder = inspect.unwrap(_torchvision_models().get_model_builder(name))
    classes = vars(sys.modules[builder.__module__]).values()
    signatures = [
        inspect.signature(each).parameters
        for each in classes
        if inspect.isclass(each)
        and each.__module__ == builder.__module__
        and issubclass(each, nn.Module)
    ]
    return {name for each in signatures if "num_classes" in each for name in each}


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Per-channel mean and standard deviation of uint8 images (N, C, H, W), on the [0, 1] scale."""
    # A histogram of the 256 levels is exact and needs no float copy of the images.
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack(
        [
            torch.bincount(images[:, c].reshape(-1).long(), minlength=256)
            for c in range(images.shape[1])
        ]
    ).double()
    share = counts / counts.sum(dim=1, keepdim=True)
    mean = share @ levels
    variance = share @ levels.square() - mean.square()
    return mean.float(), variance.clamp_min(1e-4).sqrt().float()
