"""The standard ensemble and its parts, against the package called by hand; and names that parse."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ard.attacks import autoattack as ensemble
from ard.attacks.autoattack import ATTRIBUTES, configured
from ard.attacks.registry import ATTACKS, attack_label, expand, parse_attack
from ard.attacks.run import run_attack
from ard.data.splits import Split, as_float
from ard.evaluation.accuracy import evaluate_attack
from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec

from ..conftest import EPSILON
from .test_attacks import few_queries


@pytest.mark.parametrize(
    ("name", "norm", "epsilon"),
    [
        ("apgd_ce", "linf", 0.07),
        ("apgd_ce", "l2", 0.7),
        ("apgd_t", "linf", 0.07),
        ("apgd_t", "l2", 0.7),
        # Which takes as long as all others; the norm is handed on to each of them alike.
        ("fab_t", "linf", 0.07),
        # So few queries find nothing within what is enough for gradients.
        ("square40", "linf", 0.35),
        ("square40", "l2", 3.5),
    ],
)
def test_a_part_of_the_ensemble_is_the_reference_on_every_sample(
    name: str, norm: str, epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed, model and batches: the package called by hand, as its README says."""
    from pyautoattack import AutoAttack

    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(192, 24), nn.Tanh(), nn.Linear(24, 4)
    model = nn.Sequential(*layers).requires_grad_(False).eval()
    split = Split(torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8), torch.zeros(24).long())
    split = Split(split.images, model(as_float(split.images)).argmax(1))
    by_hand = AutoAttack(
        model,
        norm={"linf": "Linf", "l2": "L2"}[norm],
        eps=epsilon,
        version="custom",
        attacks=[re.sub(r"\d+", "", name).replace("_", "-")],
        seed=0,
    )
    # What the version `standard` sets for four classes.
    by_hand.apgd.n_restarts = by_hand.fab.n_restarts = 1
    by_hand.apgd_targeted.n_target_classes = by_hand.fab.n_target_classes = 3
    by_hand.square.n_queries = 40
    few_queries(monkeypatch, 40)
    clean = as_float(split.images)
    theirs, _ = by_hand.run_standard_evaluation(clean, split.labels, batch_size=16)
    expected = (model(theirs).argmax(1) == split.labels).numpy()
    spec = parse_attack(name, epsilon=epsilon, norm=norm)
    found = evaluate_attack(model, split, spec, batch_size=16)
    assert np.array_equal(found, expected)
    assert 0 < int(found.sum()) < 24


@pytest.mark.parametrize("name", ["apgd_ce", "apgd_t", "fab_t", "square"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_no_option_of_the_standard_ensemble_is_weakened(name: str, norm: str) -> None:
    from pyautoattack import AutoAttack

    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    spec = parse_attack(name, epsilon=0.1, norm=norm.lower())
    ours = vars(configured(model, torch.rand(2, 1, 2, 2), spec)) | {"device": "cpu"}
    standard = AutoAttack(model, norm=norm, eps=0.1, version="standard", seed=0)
    # The loop of the reference sets these two just before it runs a part.
    standard.apgd.loss, standard.fab.targeted = "ce", True
    theirs = vars(getattr(standard, ATTRIBUTES[name]))
    simple = (int, float, str, bool, type(None))
    assert {k: v for k, v in ours.items() if isinstance(v, simple)} == {
        k: v for k, v in theirs.items() if isinstance(v, simple)
    }


def test_the_parts_and_their_order_are_the_standard_ones() -> None:
    assert [part.name for part in expand(parse_attack("autoattack", epsilon=0.1))] == [
        "apgd_ce",
        "apgd_t",
        "fab_t",
        "square",
    ]
    assert expand(parse_attack("autoattack", epsilon=0.1))[3].steps == 5000


def test_the_ensemble_leaves_the_random_numbers_of_others_alone(
    network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = (each[:4] for each in images_and_labels)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run_attack(network, images, labels, parse_attack("square5", epsilon=0.1), 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fgsm", ("fgsm", None, None)),
        ("pgd20", ("pgd", 20, 0.025)),
        ("pgd", ("pgd", 20, 0.025)),
        ("cw30", ("cw", 30, 0.025)),
        ("mi_fgsm4", ("mi_fgsm", 4, 0.025)),
        ("fab_t", ("fab_t", None, None)),
        ("autoattack", ("autoattack", None, None)),
        ("apgd_ce", ("apgd_ce", None, None)),
        ("apgd_t", ("apgd_t", None, None)),
        ("square", ("square", 5000, None)),
        ("square100", ("square", 100, None)),
    ],
)
def test_attack_names_parse(text: str, expected: tuple[str, int | None, float | None]) -> None:
    spec = parse_attack(text, epsilon=0.1)
    assert (spec.name, spec.steps, spec.step_size) == expected
    assert attack_label(spec) == {"pgd": "pgd20", "square": "square5000"}.get(text, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pgd-20",
        "fgsm3",
        "autoattack2",
        "deepfool",
        "pgd0",
        "20",
        "pgd999999",
        "apgd_ce5",
        "square0",
    ],
)
def test_other_attack_names_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"attack"):
        parse_attack(text, epsilon=0.1)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_part_of_the_ensemble_leaves_no_graph_behind(
    name: str,
    four_classes: nn.Module,
    of_four_classes: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With gradients on, every step would hang another node on its best images so far.
    found: list[Tensor] = []

    def watched(model: nn.Module, images: Tensor, spec: AttackSpec) -> Any:
        part = configured(model, images, spec)
        perturb = part.perturb

        def kept(images: Tensor, labels: Tensor) -> Tensor:
            found.append(perturb(images, labels))
            return found[-1]

        part.perturb = kept
        return part

    monkeypatch.setattr(ensemble, "configured", watched)
    few_queries(monkeypatch, 20)
    run_attack(four_classes, *of_four_classes, parse_attack(name, epsilon=EPSILON), 0)
    assert [tensor.requires_grad for tensor in found] == [False]


def test_every_attack_has_a_name_that_parses() -> None:
    for name in ATTACKS:
        assert isinstance(parse_attack(name, epsilon=0.1), AttackSpec)
