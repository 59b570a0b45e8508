"""Hold our attacks against pyautoattack, torchattacks and foolbox; one JSON line per comparison.

    python -m benchmarks.attacks.compare --data-dir DIR --model student.safetensors

The rivals need an environment with `pip install torchattacks foolbox` beside ardx[train]. What has
its line is skipped, so that a stopped run goes on where it was, and several processes may take a
part each (`--part alone`). The tables of docs/results/attacks.md are made from the lines.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from ard.attacks.registry import attack_label, parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.ascent import cross_entropy, gradient_and_logits
from ard.attacks.victims import Victim, weights_victim
from ard.crafting.craft import craft_set
from ard.data.datasets import load_dataset
from ard.data.sources import SplitSource
from ard.data.splits import Split, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.folding import for_attack
from benchmarks import command
from benchmarks.attacks.report import DOCUMENT, LINES, maker, read
from benchmarks.attacks.rivals import RIVALS, batches, reference, still_right
from benchmarks.documents import update
from benchmarks.lines import Line, append, commit, finished, machine, pack
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec
from edge_bench.statistics.metrics import BoolArray

LIBRARIES = ("torch", "numpy", "pyautoattack", "torchattacks", "foolbox", "eagerpy")
# Steps of 2/255 at 8/255, and a tenth of 0.5 in each of L2's.
BUDGETS = {"linf": (8 / 255, 2 / 255), "l2": (0.5, 0.05)}
FORMS = ("folded", "as loaded")
# Rounding of float32 near 1, and what the libraries' own projections leave of it.
SLACK = 1e-5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One comparison: an attack as `parse_attack` reads it, on how many images, with which seeds.

    Attributes:
        forms: of the attacked model: batch normalisation folded already, or as it was loaded.
    """

    part: str
    attack: str
    images: int
    norm: str = "linf"
    restarts: int = 1
    seeds: tuple[int, ...] = (0,)
    forms: tuple[str, ...] = ("as loaded",)

    def spec(self, seed: int) -> AttackSpec:
        """What both sides run."""
        epsilon, step_size = BUDGETS[self.norm]
        return parse_attack(
            self.attack,
            epsilon=epsilon,
            norm=self.norm,
            step_size=step_size,
            restarts=self.restarts,
            seed=seed,
        )


THREE = (0, 1, 2)
PLANS = [
    Plan(part="ensemble", attack="autoattack", images=300),
    Plan(part="ensemble", attack="autoattack", images=120, forms=("folded",)),
    Plan(part="ensemble", attack="autoattack", images=40, norm="l2", forms=FORMS),
    # Enough for a second batch.
    Plan(part="alone", attack="apgd_ce", images=600, forms=FORMS, seeds=THREE),
    Plan(part="alone", attack="square1000", images=80, forms=FORMS),
    Plan(part="alone", attack="apgd_t", images=80, forms=FORMS),
    Plan(part="alone", attack="fab_t", images=80, forms=FORMS),
    # The ensemble again on few images, for rates with a spread.
    Plan(part="rounds", attack="autoattack", images=40, forms=FORMS, seeds=THREE),
    Plan(part="throughput", attack="pgd20", images=500, seeds=tuple(range(5))),
    Plan(part="strength", attack="fgsm", images=500),
    Plan(part="strength", attack="mi_fgsm20", images=500),
    Plan(part="strength", attack="pgd20", images=500, seeds=THREE),
    Plan(part="strength", attack="pgd20", images=500, norm="l2", seeds=THREE),
    Plan(part="strength", attack="pgd50", images=500, seeds=THREE),
    Plan(part="restarts", attack="pgd20", images=150, restarts=5, seeds=THREE),
    Plan(part="restarts", attack="pgd50", images=150, restarts=5, seeds=THREE),
]


def main(
    model: Annotated[Path, typer.Option(help="Weights to attack.")],
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    part: Annotated[list[str] | None, typer.Option(help="Only these; all if absent.")] = None,
    form: Annotated[list[str] | None, typer.Option(help="Only these; all if absent.")] = None,
    lines: Annotated[Path, typer.Option(help="Lines to add to.")] = LINES,
    document: Annotated[Path, typer.Option(help="Document to fill.")] = DOCUMENT,
) -> None:
    """Add the lines that are missing for MODEL and fill in the tables of the document."""
    torch.set_num_threads(1)
    victim = weights_victim(model)
    test = load_dataset(victim.card.dataset, data_dir).test
    origin = {"commit": commit(), "machine": machine(), "versions": versions()}
    for name, run in comparisons(victim, test, part, form):
        if name in finished(lines):
            continue
        print(name, flush=True)
        append(lines, {"id": name} | run() | origin)
    update(document, maker(read(lines)), check=False)


def comparisons(
    victim: Victim,
    test: Split,
    parts: list[str] | None = None,
    forms: list[str] | None = None,
    plans: list[Plan] = PLANS,
) -> Iterator[tuple[str, Callable[[], Line]]]:
    """Identifiers and what makes their lines."""
    for plan in plans:
        if parts and plan.part not in parts:
            continue
        split = take_limit(test, plan.images)
        for form, seed in product(plan.forms, plan.seeds):
            if not forms or form in forms:
                spec = plan.spec(seed)
                about: Line = {
                    "part": plan.part,
                    "model": victim.card.architecture,
                    "model_sha256": victim.sha256,
                    "form": form,
                    "attack": attack_label(spec),
                    "norm": spec.norm,
                    "epsilon": spec.epsilon,
                    "step_size": spec.step_size,
                    "restarts": spec.restarts,
                    "seed": seed,
                    "images": len(split),
                    "split_sha256": split.sha256,
                }
                keys = ("part", "attack", "norm", "restarts", "form", "images", "seed")
                name = " ".join([victim.sha256[:12], *(str(about[key]) for key in keys)])
                yield name, partial(measured, victim, split, spec, about)


def measured(victim: Victim, split: Split, spec: AttackSpec, about: Line) -> Line:
    """`about`, and the masks and seconds of that comparison."""
    if about["part"] == "throughput":
        return about | throughput(victim, split, spec)
    module = victim.module if about["form"] == "as loaded" else for_attack(victim.module)
    if about["part"] in ("ensemble", "alone", "rounds"):
        return about | agreement(module, split, spec)
    return about | strength(module, split, spec)


def agreement(model: nn.Module, split: Split, spec: AttackSpec) -> Line:
    """Our evaluation and the reference's on the same module, with the same seed."""
    images = as_float(split.images)
    clean = evaluate_attack(model, split, None)
    sides: dict[str, Callable[[], BoolArray]] = {
        "ardx": lambda: evaluate_attack(model, split, spec),
        "pyautoattack": lambda: reference(model, images, split.labels, spec),
    }
    masks, seconds = {"clean": clean}, {}
    for name in in_turns(list(sides), spec.seed):
        masks[name], seconds[name] = timed(sides[name])
    return {"masks": {name: pack(mask) for name, mask in masks.items()}, "seconds": seconds}


def strength(model: nn.Module, split: Split, spec: AttackSpec) -> Line:
    """Ours as evaluations and as crafting run it, and the rivals, on the same images.

    Those that the model gets right: the others cannot become robust. The rivals attack the model
    as it was loaded; `torchattacks, folded` attacks the folded twin that ours climb on.
    """
    clean = evaluate_attack(model, split, None)
    right = split.at(torch.from_numpy(clean.nonzero()[0]))
    images, labels, twin = as_float(right.images), right.labels, for_attack(model)

    def judged(attack: Callable[[Tensor, Tensor, int], Tensor]) -> BoolArray:
        parts = enumerate(batches(images, labels))
        found = torch.cat([attack(x, y, index) for index, (x, y) in parts]).detach()
        require_inside(found, images, spec)
        return still_right(model, found, labels)

    def rival(name: str, attacked: nn.Module) -> BoolArray:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            return judged(lambda x, y, _: RIVALS[name](attacked, x, y, spec))

    sides: dict[str, Callable[[], BoolArray]] = {
        "ardx": lambda: evaluate_attack(model, right, spec, correct=clean[clean]),
        "ardx crafting": lambda: judged(lambda x, y, index: run_attack(twin, x, y, spec, index)),
    }
    sides |= {name: partial(rival, name, model) for name in RIVALS}
    # Its L2 takes views of gradients, which the twin's layout in memory does not allow.
    if spec.restarts == 1 and spec.norm == "linf":
        sides["torchattacks, folded"] = partial(rival, "torchattacks", twin)
    masks, seconds = {"clean": clean}, {}
    for name in in_turns(list(sides), spec.seed):
        kept, seconds[name] = timed(sides[name])
        masks[name] = clean.copy()
        masks[name][clean] = kept
    return {"masks": {name: pack(mask) for name, mask in masks.items()}, "seconds": seconds}


def throughput(victim: Victim, split: Split, spec: AttackSpec) -> Line:
    """Crafting a set, writing included, against nothing but its gradients, on both forms."""
    images, labels = as_float(split.images), split.labels
    assert spec.steps is not None
    steps = spec.steps

    def gradients(model: nn.Module) -> None:
        for x, y in batches(images, labels):
            for _ in range(steps):
                gradient_and_logits(model, x, partial(cross_entropy, labels=y))

    def crafted() -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = SplitSource(split, victim.card.dataset, victim.card.classes)
            craft_set(victim, source, spec, Path(folder) / "set")

    twin = for_attack(victim.module)
    sides: dict[str, Callable[[], None]] = {
        "ardx crafting": crafted,
        "gradients, as loaded": lambda: gradients(victim.module),
        "gradients, folded": lambda: gradients(twin),
    }
    return {"seconds": {name: timed(sides[name])[1] for name in in_turns(list(sides), spec.seed)}}


def in_turns(names: list[str], seed: int) -> list[str]:
    """Another one first in every round, so that none is always the one after a pause."""
    first = seed % len(names)
    return names[first:] + names[:first]


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What `work` returns, and its seconds: of the process on a core, and on the clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {
        "cpu": round(time.process_time() - cpu, 3),
        "wall": round(time.perf_counter() - wall, 3),
    }


def require_inside(found: Tensor, images: Tensor, spec: AttackSpec) -> None:
    """No library may win by leaving the ball or the box.

    Raises:
        InputError: one did.
    """
    change = (found - images).flatten(1)
    order = torch.inf if spec.norm == "linf" else 2
    farthest = float(torch.linalg.vector_norm(change, ord=order, dim=1).max())
    over = max(farthest - spec.epsilon, float(found.max()) - 1, -float(found.min()))
    if over > SLACK:
        raise InputError(
            f"{attack_label(spec)}: expected images inside the ball and the box, came {over:g} out"
        )


def versions() -> dict[str, str]:
    """Versions of what is compared, and of what computes."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    command.run(main)
