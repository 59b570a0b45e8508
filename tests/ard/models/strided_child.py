"""What `test_strided` runs in processes of their own, which torch may end.

strided_child.py layer FOLDER    torch's own strided 1x1 convolutions, with one thread: two may hang
strided_child.py mended FOLDER   ours, with one thread and with two
strided_child.py learn FOLDER    a narrow student, with one and with two; prints weights' digests
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from deploy.qat.strided import StridedConv2d

# (images, channels, filters, side), in each of which oneDNN's workspace ends far too early.
CASES = ((8, 2, 8, 256), (32, 4, 8, 128), (8, 15, 16, 128))


def main(what: str, folder: str) -> None:
    for threads in (1,) if what == "layer" else (1, 2):
        torch.set_num_threads(threads)
        if what == "learn":
            print(digest(Path(folder) / str(threads)))
        else:
            layers(StridedConv2d if what == "mended" else nn.Conv2d)


def layers(kind: type[nn.Conv2d]) -> None:
    """Gradients of the weights against float64, over enough passes for a damaged heap to show."""
    torch.manual_seed(0)
    for count, channels, filters, side in CASES:
        x = torch.rand(count, channels, side, side).to(memory_format=torch.channels_last)
        layer = kind(channels, filters, 1, 2, bias=False).to(memory_format=torch.channels_last)
        gradient = torch.rand(count, filters, side // 2, side // 2)
        gradient = gradient.to(memory_format=torch.channels_last)
        read = x[:, :, ::2, ::2].double()
        expected = torch.einsum("bohw,bihw->oi", gradient.double(), read)[:, :, None, None]
        for _ in range(10):
            layer.weight.grad = None
            layer(x).backward(gradient)
            assert layer.weight.grad is not None
            torch.testing.assert_close(layer.weight.grad.double(), expected, rtol=1e-4, atol=0)


def digest(folder: Path) -> str:
    from ard.data.datasets import load_dataset
    from ard.learning.config import TrainConfig
    from ard.learning.learn import learn

    config = TrainConfig(
        dataset="digits",
        architecture="resnet8:4",
        method="natural",
        epsilon=0.1,
        step_size=0.1,
        epochs=1,
        batch_size=128,
    )
    return learn(config, load_dataset("digits", folder), None, folder / "w.safetensors").sha256


if __name__ == "__main__":
    main(*sys.argv[1:])
