"""WideResNets as TRADES publishes them; most robust checkpoints of CIFAR have these names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class WideBlock(nn.Module):
    """Block of WideResNet (Zagoruyko and Komodakis 2016), named as in TRADES' checkpoints."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.widens = inputs != outputs
        if self.widens:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        skip = self.convShortcut(active) if self.widens else x
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)))) + skip
        return out


class WideStage(nn.Module):
    """Blocks under the name `layer`, as in TRADES' checkpoints."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(
            first, *(WideBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """WRN-depth-widen for CIFAR."""

    def __init__(self, depth: int, widen: int, channels: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = (16 * widen, 32 * widen, 64 * widen)
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(blocks, 16, widths[0], 1)
        self.block2 = WideStage(blocks, widths[0], widths[1], 2)
        self.block3 = WideStage(blocks, widths[1], widths[2], 2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.relu(self.bn1(x))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits
