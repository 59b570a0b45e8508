"""A setting of the ranking that is said to be read changes a training, and no other one does."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ard.methods.parts.inner import ranking_disagreement
from ard.ranking.levels import WEIGHTS, RankingOptions, ranking_losses
from ard.ranking.reads import settings_read
from edge_bench.core.errors import InputError

from .test_levels import labels_of, logits

OTHER: dict[str, Any] = {
    "agreement": "spearman",
    "form": "distance",
    "space": "logits",
    "k": 0.3,
    "k_end": 4.0,
    "normalisation": "cosine",
    "hard_teacher": True,
    "priority": "teacher",
    "top": 3,
    "reliability": "label",
    "teacher_input": "clean",
    "discrepancy": "order",
    "warm_up": 0.9,
} | dict.fromkeys(WEIGHTS, 3.0)
NONE: dict[str, Any] = dict.fromkeys(WEIGHTS, 0.0)

LEVELS: list[dict[str, Any]] = [
    {},
    NONE,
    NONE | {"weight_class": 1.0},
    NONE | {"weight_sample": 1.0},
    NONE | {"weight_class_clean": 1.0},
    NONE | {"weight_sample_clean": 1.0},
    NONE | {"weight_discrepancy": 1.0},
    NONE | {"weight_discrepancy": 1.0, "discrepancy": "order"},
    {"discrepancy": "order"},
]
BESIDE: list[dict[str, Any]] = [
    {},
    {"agreement": "spearman"},
    {"form": "distance"},
    {"top": 4},
    {"priority": "label"},
    {"reliability": "entropy"},
]


def outcome(options: RankingOptions, in_loss: bool, in_attack: bool) -> list[Tensor]:
    """What a training would see of a ranking half-way: its terms, and what its attack climbs."""
    now, four = options.at(0.5), logits(4, 5, 6, seed=11)
    labels = torch.tensor(labels_of(5, 6))
    found = []
    if in_loss:
        s_clean, s_adv, t_clean, t_adv = four
        levels = ranking_losses(s_clean, s_adv, t_clean, t_adv, now, labels)
        found += [getattr(now, f"weight_{name}") * level for name, level in levels.items()]
    if in_attack:
        found.append(ranking_disagreement(four[2], now, labels)(four[1]))
    return found


@pytest.mark.parametrize(("in_loss", "in_attack"), [(True, False), (False, True)])
@pytest.mark.parametrize("beside", BESIDE, ids=str)
@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_settings_that_are_said_to_be_read_are_those_that_change_the_ranking(
    levels: dict[str, Any], beside: dict[str, Any], in_loss: bool, in_attack: bool
) -> None:
    options = RankingOptions(**levels | beside)
    usual = outcome(options, in_loss, in_attack)
    said = settings_read(options, in_loss=in_loss, in_attack=in_attack)
    assert OTHER.keys() == {each.name for each in fields(RankingOptions)}
    for name, value in OTHER.items():
        if getattr(options, name) == value:
            value = getattr(RankingOptions(), name)
        try:
            changed = outcome(replace(options, **{name: value}), in_loss, in_attack)
        except InputError:
            continue  # What does not go together is refused already.
        alike = len(changed) == len(usual) and all(map(torch.equal, changed, usual))
        assert (name in said) == (not alike), name
