"""White-box robust accuracy of a torch model, in fp32, from per-sample masks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ard.attacks import attack_label, run_attack
from ard.data import Split, as_float
from ard.distributed import ALONE, World
from ard.folding import FoldedTwin
from edge_bench.console import Monitor, ProgressCallback, no_progress, silent
from edge_bench.errors import InputError
from edge_bench.metrics import BoolArray
from edge_bench.spec import AttackSpec

BATCH_SIZE = 250


def evaluate_attack(
    model: nn.Module,
    split: Split,
    spec: AttackSpec | None,
    *,
    correct: BoolArray | None = None,
    torch_device: str = "cpu",
    batch_size: int = BATCH_SIZE,
    world: World = ALONE,
    report_progress: ProgressCallback = no_progress,
) -> BoolArray:
    """(N,) booleans: is the sample right on the clean image and still right under the attack?

    Args:
        model: in eval mode, on `torch_device`.
        spec: the attack; None judges the clean images.
        correct: samples that are right so far; the others are not attacked again, since a sample
            that is wrong already cannot become robust.
        world: processes that take turns with the batches; all of them get all booleans.
    """
    if correct is None:
        correct = np.ones(len(split), dtype=np.bool_)
        if spec is not None:
            correct = evaluate_attack(model, split, None, torch_device=torch_device, world=world)
    robust = correct.copy()
    # The attack climbs on a cheaper form of the same function; the model itself judges.
    attacked = FoldedTwin(model).module if spec is not None else model
    alive = np.flatnonzero(correct)
    label = attack_label(spec) if spec else "clean"
    for batch_index, begin in enumerate(range(0, len(alive), batch_size)):
        if batch_index % world.size != world.rank:
            continue
        index = torch.from_numpy(alive[begin : begin + batch_size])
        batch = split.at(index)
        images, labels = as_float(batch.images).to(torch_device), batch.labels.to(torch_device)
        if spec is not None:
            images = run_attack(attacked, images, labels, spec, batch_index)
        robust[index.numpy()] = (predict(model, images) == labels).cpu().numpy()
        report_progress(min(begin + batch_size, len(alive)), len(alive), "")
    robust = world.all_of(robust)
    report_progress(max(len(alive), 1), max(len(alive), 1), f"{label} {robust.mean():.1%}")
    return robust


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Classes (B,) of images (B, C, H, W) in [0, 1].

    Raises:
        InputError: the model gives NaN or infinite logits.
    """
    with torch.no_grad():
        logits: Tensor = model(images)
    if not bool(torch.isfinite(logits).all()):
        raise InputError(
            "the model gives NaN or infinite logits, so its accuracy would be meaningless; train "
            "it again or check the file"
        )
    return logits.argmax(dim=1)


def evaluate_all(
    model: nn.Module,
    split: Split,
    specs: list[AttackSpec],
    *,
    torch_device: str = "cpu",
    monitor: Monitor = silent,
) -> dict[str, BoolArray]:
    """Masks by attack: `clean`, each attack, and `worst case`, right under all of them."""
    with monitor("clean") as report_progress:
        clean = evaluate_attack(
            model, split, None, torch_device=torch_device, report_progress=report_progress
        )
    masks = {"clean": clean}
    worst = clean.copy()
    for spec in specs:
        label = attack_label(spec)
        with monitor(label) as report_progress:
            masks[label] = evaluate_attack(
                model,
                split,
                spec,
                correct=clean,
                torch_device=torch_device,
                report_progress=report_progress,
            )
        worst &= masks[label]
    if specs:
        masks["worst case"] = worst
    return masks
