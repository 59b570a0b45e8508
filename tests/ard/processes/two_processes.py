"""What processes that train do, below torchrun or alone.

As a script this is ardx, whose second process is killed by the system in its second epoch.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ard.learning.train
from ard.__main__ import main
from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, Split, as_float
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.learning.run_state import Run
from ard.learning.step import Teachers, update
from ard.models.architectures import Classifier, build_model
from ard.processes.parallel import in_parallel
from ard.processes.world import World
from edge_bench.core.errors import ArdxError

METHODS = ("natural", "ard", "mtard", "dist_adv", "mart")
STEPS = 3
"""Of natural training; one less of the others, of which the first alone is held to one process."""


def config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "dataset": "digits",
        "architecture": "resnet8:4",
        "method": "natural",
        "epsilon": 0.15,
        "step_size": 0.075,
        "inner_steps": 1,
        "epochs": 2,
        "batch_size": 64,
        "learning_rate": 0.05,
        "ema_decay": 0.9,
    }
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


def network(seed: int) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model("resnet8:4", 1, 10, torch.tensor([0.3]), torch.tensor([0.4]))


def flat(tensors: list[Tensor]) -> list[float]:
    values: list[float] = torch.cat([t.detach().double().flatten() for t in tensors]).tolist()
    return values


def first_updates(method: str, data: Split, world: World) -> dict[str, Any]:
    """The student after the first updates by a method, all of them on whole batches of 16.

    Later than the first, an attack may turn a gradient's rounding into another sign; `first` is
    from before.
    """
    settings = config(method=method, batch_size=16, learning_rate=0.1)
    run = Run(settings, network(1), world)
    teachers = Teachers(robust=network(2).eval(), clean=network(3).eval())
    generator = torch.Generator().manual_seed(0)
    states: list[dict[str, Any]] = []
    for step in range(STEPS if method == "natural" else STEPS - 1):
        batch = data.at(torch.arange(16 * step, 16 * (step + 1)))
        images = as_float(batch.images)
        terms = update(settings, run, teachers, images, batch.labels, generator, 0.0)
        states.append(
            {
                "terms": [float(term.detach()) for term in terms.values()],
                "weights": flat(list(run.student.parameters())),
                "buffers": flat(list(run.student.buffers())),
                "average": flat(list(run.average.parameters())),
                "memory": run.memory.tolist(),
            }
        )
    return {"names": list(run.student.state_dict()), "first": states[0], "last": states[-1]}


def of_timm(data: Split, world: World) -> list[list[float]]:
    """What one pass of training gives for a batch, and the statistics after it, where timm's layer
    activates what it normalises."""
    from timm.layers.norm_act import BatchNormAct2d

    torch.manual_seed(0)
    norm = BatchNormAct2d(4, act_layer=nn.SiLU)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(4 * 36, 10)).train()
    given = world.part(as_float(data.at(torch.arange(16)).images))
    logits = world.whole(in_parallel(model, world)(given))
    return [flat([logits]), flat([b for b in model.buffers() if b.is_floating_point()])]


def refused(action: Any) -> str:
    try:
        action()
    except ArdxError as error:
        return str(error)
    return ""


def measure(out: Path, world: World) -> None:
    """Train, and leave what came of it in `out`."""
    data = load_dataset("digits", Path("unused"))
    found: dict[str, Any] = {m: first_updates(m, data.train, world) for m in METHODS}
    weights = out / f"of-rank-{world.rank}" / "w.safetensors"
    small = Dataset(
        name="digits",
        train=Split(data.train.images[:320], data.train.labels[:320]),
        test=data.test,
        classes=10,
        flips=False,
    )
    learned = learn(config(), small, None, weights, world=world)
    found["learned"] = [learned.sha256, asdict(learned.validation)]
    found["timm"] = of_timm(data.train, world)
    if world.size > 1:
        # What `ardx teach` does with the arguments that conftest.py gives it.
        teaching = config(
            method="pgd_at",
            learning_rate=0.1,
            ema_decay=0.995,
            step_size=0.0375,
            train_fraction=0.2,
        )
        learn(teaching, data, None, out / "taught" / "teacher.safetensors", world=world)
        found["missing"] = refused(lambda: world.from_first(lambda: _raise_on_first(world)))
        found["seeds"] = refused(lambda: world.check_agreement({"seed": world.rank}))
        apart = nn.Parameter(torch.tensor([1.0, 1.0 + world.rank / 100]))
        found["apart"] = refused(lambda: world.check_weights([apart]))
        by_part = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        found["by part"] = refused(lambda: in_parallel(by_part, world))
        found["equal"] = refused(lambda: world.check_weights([nn.Parameter(torch.ones(3))]))
    text = json.dumps(found)
    (out / f"updates{world.rank}.json").write_text(text, encoding="utf-8")


def _raise_on_first(world: World) -> None:
    raise ArdxError(f"said by process {world.rank}")


def die() -> None:
    validate = ard.learning.train._validate

    def killed_in_the_second_epoch(*values: Any) -> Any:
        if os.environ["RANK"] == "1" and values[3] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return validate(*values)

    ard.learning.train._validate = killed_in_the_second_epoch  # type: ignore[assignment]
    main("ardx")


if __name__ == "__main__":
    die()
