"""Is an ONNX file near chance for want of a normalisation that is outside of its graph?"""

from __future__ import annotations

from ard.attacks.victims import Victim
from ard.data.splits import Split, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.deployed import Deployed

USUAL = (
    ("0.5", "0.5"),
    ("0.485,0.456,0.406", "0.229,0.224,0.225"),
    ("0", "0.00392157"),
    ("0.49,0.48,0.45", "0.25,0.24,0.26"),
)
"""--mean and --std: to [-1, 1], of ImageNet, to 0..255, and of small pictures of things."""
ABOVE_CHANCE = 0.1
"""Share of what lies above chance that a trained network keeps at the very least."""
TRIED_ON = 200


def doubt_of(victim: Victim, split: Split, clean: float) -> str | None:
    """What to try for a file without a card whose clean accuracy is near chance; else None."""
    deployed, card = victim.module, victim.card
    chance = 1 / card.classes
    if not isinstance(deployed, Deployed) or clean >= chance + ABOVE_CHANCE * (1 - chance):
        return None
    some = take_limit(split, min(TRIED_ON, len(split)))
    found: dict[tuple[str, str], float] = {}
    for mean, std in () if deployed.reads_levels else USUAL:
        means, stds = (tuple(float(part) for part in text.split(",")) for text in (mean, std))
        if len(means) in (1, card.input_shape[0]):
            other = deployed.normalised(means, stds)
            found[mean, std] = float(evaluate_attack(other, some, None).mean())
    told = (
        f"{victim.path.name} is right on {100 * clean:.1f} % of {len(split)} clean images, and "
        f"chance is {100 * chance:.1f} %"
    )
    best = max(found, key=lambda pair: found[pair], default=None)
    if best is not None and found[best] >= chance + 2 * ABOVE_CHANCE * (1 - chance):
        return (
            f"{told}; with --mean {best[0]} --std {best[1]} it is right on "
            f"{100 * found[best]:.1f} % of {len(some)} of them"
        )
    return (
        f"{told}; is it a normalisation outside of its graph (--mean, --std), the order of the "
        "classes, that of its colours, or other data than it was trained on?"
    )
