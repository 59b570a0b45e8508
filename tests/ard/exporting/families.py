"""Small networks of different families, for images of 8x8 pixels in one channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, classes))


def dropout_without_norm(classes: int) -> nn.Module:
    """No normalisation layer at all, dropout of both kinds."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Dropout2d(0.05),
        nn.Conv2d(24, 24, 3, stride=2, padding=1),
        nn.ELU(),
        nn.Dropout(0.1),
        _head(24, classes),
    )


def group_norm_silu(classes: int) -> nn.Module:
    """GroupNorm and SiLU, as small batches are trained with."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GroupNorm(4, 32),
        nn.SiLU(),
        _head(32, classes),
    )


class SqueezeExcite(nn.Module):
    """A gate per channel from the mean of the channel (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(gate)


def squeeze_excite(classes: int) -> nn.Module:
    """Depthwise convolutions, hard swish and squeeze-and-excite, as MobileNetV3 has them."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        SqueezeExcite(16),
        nn.Conv2d(16, 32, 1, bias=False),
        nn.BatchNorm2d(32),
        _head(32, classes),
    )


class Attention(nn.Module):
    """A small vision transformer: patches, positions, one encoder layer, the mean of tokens."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, 32))
        self.norm1 = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.project = nn.Linear(32, 32)
        self.norm2 = nn.LayerNorm(32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        batch, count, width = tokens.shape
        parts = self.qkv(self.norm1(tokens)).reshape(batch, count, 3, 4, width // 4)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.project(mixed.transpose(1, 2).reshape(batch, count, width))
        tokens = tokens + self.mlp(self.norm2(tokens))
        logits: Tensor = self.head(tokens.mean(1))
        return logits


def attention(classes: int) -> nn.Module:
    """Attention in torch's own fused operator, LayerNorm and GELU."""
    return Attention(classes)


class ConvNext(nn.Module):
    """A ConvNeXt block (Liu et al. 2022): LayerNorm over channels, a scale that is learnt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)
        self.gamma = nn.Parameter(0.5 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inside = self.gamma * self.narrow(F.gelu(self.widen(inside)))
        added: Tensor = x + inside.permute(0, 3, 1, 2)
        return added


def convnext(classes: int) -> nn.Module:
    """ConvNeXt: channels last inside."""
    return nn.Sequential(nn.Conv2d(1, 24, 2, stride=2), ConvNext(24), _head(24, classes))


class Branches(nn.Module):
    """RepVGG's block in training: 3x3, 1x1 and identity, each normalised (Ding et al. 2021)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.three = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.one = nn.Conv2d(channels, channels, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.three(x), self.one(x), x)
        return F.relu(sum(norm(part) for norm, part in zip(self.norms, parts, strict=True)))


def repvgg(classes: int) -> nn.Module:
    """Parallel branches that a deployment would fold into one."""
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), Branches(16), _head(16, classes))


class Shuffled(nn.Module):
    """ShuffleNet's: half of the channels pass, and all are shuffled (Ma et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        both = torch.cat((kept, self.branch(changed)), dim=1)
        batch, channels, height, width = both.shape
        return both.view(batch, 2, channels // 2, height, width).transpose(1, 2).flatten(1, 2)


def shufflenet(classes: int) -> nn.Module:
    """Channels split, joined and shuffled."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), Shuffled(24), _head(24, classes)
    )


class Custom(nn.Module):
    """A layer that nobody else has: a smooth maximum of neighbours, with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(torch.exp(self.sharpness * x.clamp(-3, 3)), 2)
        return torch.log(mean) / self.sharpness


def custom(classes: int) -> nn.Module:
    """An own layer of elementary operations."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.Tanh(), Custom(), _head(24, classes)
    )


class Branching(nn.Module):
    """Looks at what a tensor holds, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if x.max() > 0.3 else x


def branching(classes: int) -> nn.Module:
    """A network that cannot be exported."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.Sequential(nn.ReLU(), Branching()), _head(16, classes)
    )


class Outliers(nn.Module):
    """Adds what is taken away again: INT8 has no levels left for the image between."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, 3e4 * x[:, :1] + 1e4), dim=1)


def outliers(classes: int) -> nn.Module:
    """A network that INT8 ruins in its last convolution."""
    last = nn.Conv2d(17, 16, 1)
    with torch.no_grad():
        last.weight[:, 16] = 0
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), Outliers(), last, _head(16, classes))
