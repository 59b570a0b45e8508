"""One case of `run`, alone or below torchrun: python -m benchmarks.scale.case WHAT SIZE TIMES

What follows is measured in processor seconds of one thread a process, summed over the processes:
what other programs do on the machine then moves it little. Images are noise, and networks are not
trained: what an attack costs does not depend on either.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from ard.attacks.registry import parse_attack
from ard.attacks.victims import Victim
from ard.crafting.craft import craft_set
from ard.data.sources import open_images
from ard.data.splits import Split, as_float
from ard.evaluation.accuracy import evaluate_attack
from ard.learning.config import TrainConfig
from ard.learning.run_state import Run
from ard.learning.step import Teachers, update
from ard.models.architectures import build_model
from ard.models.predict import predict
from ard.processes.torchrun import joined
from ard.processes.world import World
from ard.ranking.levels import RankingOptions, ranking_losses
from edge_bench.core.spec import ModelCard
from edge_bench.devices.process import peak_memory_bytes

ATTACK = parse_attack("pgd1", epsilon=8 / 255)
SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 250
STEPS, STEP_BATCH, RANKED = 6, 128, 128
LARGE, LARGE_BATCH = 224, 8

Work = Callable[[], object]


def network(seed: int = 0, classes: int = CLASSES) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        half = torch.full((3,), 0.5)
        return build_model("resnet8:8", 3, classes, half, half).eval()


def noise(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)


def labelled(model: nn.Module, count: int) -> Split:
    """Images that the network is right about: all of them are attacked."""
    images = noise(count)
    return Split(
        images, torch.cat([predict(model, as_float(p)) for p in torch.split(images, BATCH)])
    )


def stored(model: nn.Module, count: int, folder: Path) -> None:
    """The same in files, of which a batch at a time is in memory."""
    headers = {"images": (np.uint8, (count, *SHAPE)), "labels": (np.int64, (count,))}
    paths = {name: folder / f"{name}.npy" for name in headers}
    for name, (dtype, shape) in headers.items():
        np.lib.format.open_memmap(paths[name], mode="w+", dtype=dtype, shape=shape)
    for begin in range(0, count, BATCH):
        some = labelled(model, min(BATCH, count - begin))
        for name, part in (("images", some.images), ("labels", some.labels)):
            array = np.lib.format.open_memmap(paths[name], mode="r+")
            array[begin : begin + len(part)] = part.numpy()


def evaluate(size: int, world: World, folder: Path) -> Work:
    """`ardx evaluate` of that many images."""
    model = network()
    split = labelled(model, size)
    return lambda: evaluate_attack(model, split, ATTACK, world=world)


def attack(size: int, world: World, folder: Path) -> Work:
    """`ardx attack` of that many images, from files to files."""
    model = network()
    card = ModelCard(architecture="resnet8:8", dataset="noise", classes=CLASSES, input_shape=SHAPE)
    victim = Victim(path=Path("w"), sha256="0", card=card, module=model, threat="white-box")
    stored(model, size, folder)
    source = open_images(folder, card)
    return lambda: craft_set(victim, source, ATTACK, folder / "set", force=True, world=world)


def step(size: int, world: World, folder: Path) -> Work:
    """Steps of `ardx distill` by ARD with that many classes."""
    config = TrainConfig(
        dataset="noise",
        architecture="resnet8:8",
        method="ard",
        epsilon=8 / 255,
        step_size=2 / 255,
        inner_steps=3,
        batch_size=STEP_BATCH,
    )
    run = Run(config, network(0, size).train(), world)
    teachers = Teachers(robust=network(1, size))
    images = as_float(noise(STEP_BATCH))
    labels = torch.arange(STEP_BATCH) % size
    generator = torch.Generator().manual_seed(0)

    def work(steps: int = STEPS) -> None:
        for _ in range(steps):
            update(config, run, teachers, images, labels, generator, 0.0)

    work(1)
    return work


def ranking(size: int, world: World, folder: Path) -> Work:
    """All three levels of the ranking losses, forward and backward, with that many classes."""
    generator = torch.Generator().manual_seed(0)
    clean, attacked, by_teacher, by_teacher_attacked = (
        torch.randn(RANKED, size, generator=generator) for _ in range(4)
    )
    clean.requires_grad_()
    attacked.requires_grad_()

    def work() -> None:
        losses = ranking_losses(clean, attacked, by_teacher, by_teacher_attacked, RankingOptions())
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]

    work()
    return work


def passes(size: int, world: World, folder: Path) -> Work:
    """A pass of ResNet-18 over images of ImageNet's size: 0 forward, 1 and back to the image."""
    # Importing it takes as long as torch itself, which no other case has to.
    from torchvision.models import resnet18

    model = resnet18().eval().requires_grad_(False)
    images = torch.rand(LARGE_BATCH, 3, LARGE, LARGE, requires_grad=bool(size))

    def work() -> None:
        with torch.set_grad_enabled(bool(size)):
            logits = model(images)
        if size:
            torch.autograd.grad(logits.sum(), images)

    work()
    return work


CASES: dict[str, Callable[[int, World, Path], Work]] = {
    case.__name__: case for case in (evaluate, attack, step, ranking, passes)
}


def measured(
    what: str, size: int, world: World, folder: Path, times: int = 1
) -> dict[str, list[float]]:
    """Of each time processor seconds of all processes, seconds by the clock, and largest memory."""
    work = CASES[what](size, world, folder)
    found: dict[str, list[float]] = {"cpu_s": [], "clock_s": [], "peak_mib": []}
    for _ in range(times):
        cpu, clock = time.process_time(), time.perf_counter()
        work()
        found["clock_s"].append(time.perf_counter() - clock)
        spent = torch.tensor([time.process_time() - cpu], dtype=torch.float64)
        found["cpu_s"].append(float(world.whole(spent).sum()))
        found["peak_mib"].append(peak_memory_bytes() / 2**20)
    return {name: [round(value, 6) for value in values] for name, values in found.items()}


def main(what: str, size: int, times: int) -> None:
    torch.set_num_threads(1)
    with joined() as world, TemporaryDirectory() as folder:
        found = measured(what, size, world, Path(folder), times)
        if world.leads:
            print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
