"""Which settings of a ranking make a difference, beside the others that are in force."""

from __future__ import annotations

from ard.ranking.levels import WEIGHTS, RankingOptions


def settings_read(options: RankingOptions, *, in_loss: bool, in_attack: bool) -> frozenset[str]:
    """Fields of `RankingOptions` that another value of would change a training.

    Args:
        in_loss: whether the loss has the ranking terms, as ARD's.
        in_attack: whether the attack in training ascends a ranking, as the objective `ranking`.
    """
    o, found = options, set(WEIGHTS if in_loss else ())
    adversarial = in_loss and bool(o.weight_class or o.weight_sample)
    changes = in_loss and bool(o.weight_discrepancy)
    clean = in_loss and bool(o.weight_class_clean or o.weight_sample_clean)
    compared = changes and o.discrepancy == "logits"
    classes = in_loss and bool(o.weight_class or o.weight_class_clean)
    if adversarial or changes or clean:
        found |= {"warm_up", "reliability"}
    if adversarial or changes or clean or in_attack:
        found |= {"space", "k", "k_end"}
    if adversarial or compared or clean or in_attack:
        found |= {"agreement", "form", "hard_teacher"}
        if o.agreement == "kendall" and o.form == "agreement":
            found.add("normalisation")
    if classes or compared or in_attack:
        found |= {"top", "priority"}
    if changes:
        found.add("discrepancy")
    # Of changes from x to x' it decides by which images classes are chosen and samples trusted.
    chosen = compared and (o.priority != "uniform" or o.top > 0)
    if adversarial or chosen or (changes and o.reliability != "none"):
        found.add("teacher_input")
    return frozenset(found)
