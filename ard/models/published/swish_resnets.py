"""The networks of Gowal et al. 2020 (arXiv 2010.03593), under the names of their checkpoints.

They differ from the usual ones in more than SiLU for ReLU: they were trained where the "SAME"
padding of a strided convolution adds one row below and one column to the right only, so that even
padding gives other logits. Their PreAct ResNet-18 projects the raw input by a 3x3 convolution. The
weights of Rebuffi, Rade, Pang, Wang and others have the same names.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def _pad_same(x: Tensor, stride: int) -> Tensor:
    return F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


class SwishWideBlock(nn.Module):
    """Pre-activation block with SiLU; a change of width projects the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.conv_0 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.widens = inputs != outputs
        if self.widens:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.silu(self.batchnorm_0(x))
        skip = self.shortcut(active) if self.widens else x
        inner = F.silu(self.batchnorm_1(self.conv_0(_pad_same(active, self.stride))))
        out: Tensor = self.conv_1(inner) + skip
        return out


class SwishWideStage(nn.Module):
    """Blocks under the name `block`."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = SwishWideBlock(inputs, outputs, stride)
        self.block = nn.Sequential(
            first, *(SwishWideBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class SwishWideResNet(nn.Module):
    """WideResNet-depth-width with SiLU."""

    def __init__(self, depth: int, width: int, channels: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16 * width, 32 * width, 64 * width]
        self.init_conv = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.layer = nn.Sequential(
            SwishWideStage(blocks, 16, widths[0], 1),
            SwishWideStage(blocks, widths[0], widths[1], 2),
            SwishWideStage(blocks, widths[1], widths[2], 2),
        )
        self.batchnorm = nn.BatchNorm2d(widths[2])
        self.logits = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.batchnorm(self.layer(self.init_conv(x))))
        logits: Tensor = self.logits(x.mean(dim=(2, 3)))
        return logits


class SwishPreActBlock(nn.Module):
    """Pre-activation block with SiLU; a projection reads the raw input, 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.conv_2d_1 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.conv_2d_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.shortcut = nn.Conv2d(inputs, outputs, 3, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.silu(self.batchnorm_0(x))
        skip = self.shortcut(_pad_same(x, self.stride)) if self.projects else x
        inner = F.silu(self.batchnorm_1(self.conv_2d_1(_pad_same(active, self.stride))))
        out: Tensor = self.conv_2d_2(inner) + skip
        return out


class SwishPreActResNet18(nn.Module):
    """PreAct ResNet-18 with SiLU and a CIFAR stem."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv_2d = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        inputs = 64
        for index, outputs in enumerate((64, 128, 256, 512)):
            stage = nn.Sequential(
                SwishPreActBlock(inputs, outputs, 1 if index == 0 else 2),
                SwishPreActBlock(outputs, outputs, 1),
            )
            self.add_module(f"layer_{index}", stage)
            inputs = outputs
        self.batchnorm = nn.BatchNorm2d(512)
        self.logits = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_2d(x)
        for index in range(4):
            x = self.get_submodule(f"layer_{index}")(x)
        x = F.silu(self.batchnorm(x))
        logits: Tensor = self.logits(x.mean(dim=(2, 3)))
        return logits
