"""Do an ONNX file's graph, read into torch, and its runtime compute the same, under attack too?

Gradients that are read off a graph are worth what its reading is. So before they are used, the
logits of both are compared on clean images and on adversarial ones that were made by these very
gradients, on the 8-bit grid, as a device is given them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.grid import round_to_grid
from ard.attacks.victims import Victim
from ard.data.splits import Split, as_float
from ard.models.deployed import Deployed
from deploy.reading.network import GraphNetwork
from edge_bench.core.spec import AttackSpec

IMAGES = 64
"""At most, of each kind."""
ATTACK = "pgd10"
LEVEL, USUAL = 1 / 255, 8 / 255
"""The smallest budget that an image on the grid can use, and one for norms other than L-inf."""
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "int8": 0.1}
"""By what the graph computes in: largest difference of a logit, of the spread of all of them.

torch and ONNX Runtime lie 1e-6 apart in float32. A step of float16 is 5e-4 of a value, and a
network rounds some tens of times in a row. Integers tie, and the sums of floats and of integers
break ties either way, which moves a logit by a few of its 255 steps.
"""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two computations of the same logits lie apart.

    Attributes:
        images: compared, of each kind.
        differences: largest of any logit on clean and on adversarial images, of the spread of all.
        tolerance: that they are held to.
    """

    images: int
    differences: dict[str, float]
    tolerance: float

    @property
    def holds(self) -> bool:
        """Is every difference within the tolerance? NaN is not."""
        return all(value <= self.tolerance for value in self.differences.values())

    def __str__(self) -> str:
        told = " and ".join(f"{value:.2g} on {kind}" for kind, value in self.differences.items())
        return (
            f"logits as torch and the runtime compute them differ by {told} images, of their "
            f"spread ({self.images} of each; {self.tolerance:g} is allowed)"
        )


def agreement(
    network: GraphNetwork,
    deployed: Deployed,
    images: Split,
    *,
    epsilon: float,
    precision: str,
    seed: int = 0,
    torch_device: str = "cpu",
) -> Agreement:
    """Compare a graph in torch with itself in its runtime, on the first of some images.

    Args:
        precision: key of TOLERANCES.
        epsilon: L-inf budget of the adversarial ones.
    """
    some = images.part(0, IMAGES)
    levels, labels = some.images.to(torch_device), some.labels.to(torch_device)
    spec = parse_attack(ATTACK, epsilon=epsilon, seed=seed)
    found = run_attack(network, as_float(levels), labels, spec, 0)
    moved = round_to_grid(found, levels, epsilon, "linf")
    kinds = {"clean": as_float(levels), "adversarial": as_float(moved)}
    return Agreement(
        images=len(levels),
        differences={name: _difference(network, deployed, some) for name, some in kinds.items()},
        tolerance=TOLERANCES[precision],
    )


@torch.no_grad()
def _difference(network: GraphNetwork, deployed: Deployed, images: Tensor) -> float:
    ours, theirs = network(images), deployed(images)
    if ours.shape != theirs.shape:
        return float("nan")
    spread = float(theirs.max() - theirs.min()) or 1.0
    return float((ours - theirs).abs().max()) / spread


def checked(
    victim: Victim, images: Split, spec: AttackSpec, *, torch_device: str = "cpu"
) -> Victim:
    """`victim`, or where its own graph was read as something else, itself without gradients.

    Args:
        spec: an attack that is to come, whose budget and seed are taken.
    """
    network, deployed = victim.own_graph, victim.module
    if network is None or not isinstance(deployed, Deployed):
        return victim
    found = agreement(
        network,
        deployed,
        images,
        epsilon=max(spec.epsilon, LEVEL) if spec.norm == "linf" else USUAL,
        precision=precision_of(victim),
        seed=spec.seed,
        torch_device=torch_device,
    )
    note = f"{victim.path.name}: gradients are read off its graph; {found}"
    if found.holds:
        return replace(victim, notes=(*victim.notes, note))
    return victim.blind(f"{victim.path}: gradients cannot be read off its graph, since {found}")


def precision_of(victim: Victim) -> str:
    """What a graph computes in, whatever its card says: a foreign file's says nothing."""
    assert victim.own_graph is not None
    if victim.own_graph.rounds:
        return "int8"
    return "fp16" if victim.own_graph.is_half else victim.card.precision
