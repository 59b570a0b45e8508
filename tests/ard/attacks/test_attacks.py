"""Attacks on a small trained network: budget, strength, determinism, wiring."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ard.attacks.attempt import margin
from ard.attacks.registry import ATTACKS, parse_attack
from ard.attacks.run import run_attack, targets_of
from ard.attacks.steps.ascent import cross_entropy, gradient_and_logits
from ard.methods.parts.inner import kl_to
from edge_bench.core.errors import InputError

from ..conftest import EPSILON

NAMES = ["fgsm", "pgd5", "cw5", "apgd_ce", "apgd_t", "square50", "autoattack"]
LONGEST = ("autoattack", 8 / 255)


def few_queries(monkeypatch: pytest.MonkeyPatch, queries: int) -> None:
    """Let Square, in the ensemble too, ask only so often."""
    monkeypatch.setitem(ATTACKS, "square", replace(ATTACKS["square"], steps=queries))


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


@pytest.mark.parametrize(
    ("name", "epsilon"),
    # The ensemble takes as long as all others, whose parts it has.
    [(name, at) for name in NAMES for at in (8 / 255, EPSILON) if (name, at) != LONGEST],
)
def test_an_attack_stays_inside_the_ball_and_the_box(
    name: str,
    epsilon: float,
    four_classes: nn.Module,
    of_four_classes: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few_queries(monkeypatch, 50)
    images, labels = of_four_classes
    adversarial = run_attack(four_classes, images, labels, parse_attack(name, epsilon=epsilon), 0)
    assert adversarial.shape == images.shape
    assert float((adversarial.double() - images.double()).abs().max()) <= epsilon + 1e-6
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1


@pytest.mark.parametrize("name", ["fgsm", "pgd5", "cw5"])
def test_an_attack_lowers_accuracy(
    name: str, network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = images_and_labels
    adversarial = run_attack(network, images, labels, parse_attack(name, epsilon=EPSILON), 0)
    assert accuracy(network, adversarial, labels) < accuracy(network, images, labels) - 0.1


def test_pgd_is_no_weaker_than_fgsm(
    network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = images_and_labels
    found = {
        name: accuracy(
            network,
            run_attack(network, images, labels, parse_attack(name, epsilon=EPSILON), 0),
            labels,
        )
        for name in ("fgsm", "pgd20")
    }
    assert found["pgd20"] <= found["fgsm"]


def test_more_steps_and_restarts_never_raise_the_margin_below_the_clean_one(
    network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = images_and_labels
    spec = parse_attack("pgd3", epsilon=EPSILON, restarts=1)
    more = parse_attack("pgd3", epsilon=EPSILON, restarts=3)
    with torch.no_grad():
        one = margin(network(run_attack(network, images, labels, spec, 0)), labels)
        three = margin(network(run_attack(network, images, labels, more, 0)), labels)
    # The first of the three starts is the one start of the other run.
    assert bool((three >= one - 1e-5).all())


@pytest.mark.parametrize("name", [name for name, kind in ATTACKS.items() if not kind.differential])
def test_only_what_starts_at_random_has_more_than_one_start(
    name: str, network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    spec = parse_attack(f"{name}2" if ATTACKS[name].step_size else name, epsilon=0.02, restarts=3)
    assert spec.restarts == (3 if ATTACKS[name].restarts else 1)
    if ATTACKS[name].distribution:
        return  # Whose starts are its own.
    images, labels = (each[:8] for each in images_and_labels)
    one, other = (
        run_attack(network, images, labels, replace(spec, restarts=1, seed=seed), 0)
        for seed in (1, 2)
    )
    assert torch.equal(one, other) == (spec.restarts == 1)


def test_fgsm_is_one_signed_step_on_a_linear_model() -> None:
    weights = torch.tensor([[1.0, -2.0, 0.0], [-3.0, 1.0, 2.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    model[1].weight.data = weights
    images = torch.full((1, 1, 1, 3), 0.5)
    found = run_attack(model, images, torch.tensor([0]), parse_attack("fgsm", epsilon=0.1), 0)
    # For two classes the cross-entropy of class 0 grows along w_1 - w_0 = (-4, 3, 2).
    torch.testing.assert_close(found, torch.tensor([[[[0.4, 0.6, 0.6]]]]))


def test_pgd_reaches_the_corner_of_the_ball_of_a_linear_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0, -2.0, 0.5], [-3.0, 1.0, 2.0]])
    images = torch.tensor([[[[0.5, 0.95, 0.5]]]])
    found = run_attack(model, images, torch.tensor([0]), parse_attack("pgd20", epsilon=0.1), 0)
    torch.testing.assert_close(found, torch.tensor([[[[0.4, 1.0, 0.6]]]]))


def test_the_draws_depend_on_seed_and_batch_alone(
    network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = images_and_labels

    def run(seed: int, batch: int) -> Tensor:
        spec = parse_attack("pgd2", epsilon=EPSILON, seed=seed)
        return run_attack(network, images, labels, spec, batch)

    first = run(0, 0)
    torch.manual_seed(123)
    assert torch.equal(first, run(0, 0))
    assert not torch.equal(first, run(1, 0))
    assert not torch.equal(first, run(0, 1))


def test_an_attack_leaves_the_network_without_gradients(
    network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = images_and_labels
    run_attack(network, images, labels, parse_attack("pgd2", epsilon=EPSILON), 0)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_autoattack_is_the_standard_ensemble_with_nothing_weakened() -> None:
    from pyautoattack import AutoAttack

    runner = AutoAttack(nn.Identity(), norm="Linf", eps=0.1, version="standard", seed=0)
    assert runner.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    # The published settings of Croce and Hein 2020.
    assert (runner.apgd.n_iter, runner.apgd.n_restarts) == (100, 1)
    assert (runner.apgd_targeted.n_iter, runner.apgd_targeted.n_target_classes) == (100, 9)
    assert (runner.fab.n_iter, runner.fab.n_target_classes) == (100, 9)
    assert runner.square.n_queries == 5000


def test_autoattack_tries_every_other_class_where_there_are_few() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    images = torch.rand(6, 1, 4, 4)
    with torch.no_grad():
        labels = model(images).argmax(1)
    spec = parse_attack("autoattack", epsilon=0.3)
    adversarial = run_attack(model.requires_grad_(False), images, labels, spec, 0)
    assert accuracy(model, adversarial, labels) < 0.5


@pytest.mark.parametrize("name", ["autoattack", "apgd_t"])
def test_a_targeted_attack_on_too_few_classes_is_a_sentence(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    spec = parse_attack(name, epsilon=0.1)
    with pytest.raises(InputError, match=f"{name}: needs 4 classes or more, the model has 3"):
        run_attack(model, torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), spec, 0)


@pytest.mark.parametrize("name", ["apgd_ce", "square20"])
def test_the_other_parts_of_the_ensemble_need_no_fourth_class(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).requires_grad_(False)
    images = torch.rand(6, 1, 4, 4)
    labels = model(images).argmax(1)
    found = run_attack(model, images, labels, parse_attack(name, epsilon=0.3), 0)
    assert accuracy(model, found, labels) < 1


@pytest.mark.parametrize("name", ["apgd_ce", "apgd_t", "square200"])
def test_a_part_of_the_ensemble_attacks_only_what_is_still_right(
    name: str, four_classes: nn.Module, of_four_classes: tuple[Tensor, Tensor]
) -> None:
    images, _ = of_four_classes
    with torch.no_grad():
        predicted = four_classes(images).argmax(1)
    wrong = torch.arange(len(images)) % 3 == 0
    labels = torch.where(wrong, (predicted + 1) % 4, predicted)
    found = run_attack(four_classes, images, labels, parse_attack(name, epsilon=EPSILON), 0)
    changed = (found != images).flatten(1).any(dim=1)
    assert not bool((changed & wrong).any())
    assert bool(changed.any())


def test_the_ensemble_is_no_weaker_than_any_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    few_queries(monkeypatch, 30)
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)
    model = nn.Sequential(*layers).requires_grad_(False)
    images = torch.rand(16, 1, 4, 4)
    labels = model(images).argmax(1)
    found = {}
    for name in ("apgd_ce", "apgd_t", "square30", "autoattack"):
        adversarial = run_attack(model, images, labels, parse_attack(name, epsilon=0.05), 0)
        found[name] = accuracy(model, adversarial, labels)
    assert 0 < found["autoattack"] < 1
    assert found["autoattack"] <= min(found.values())


def test_square_asks_as_often_as_its_name_says(
    images_and_labels: tuple[Tensor, Tensor], network: nn.Module
) -> None:
    images, labels = (each[:1] for each in images_and_labels)
    with torch.no_grad():
        labels = network(images).argmax(1)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = network.register_forward_hook(count)
    # So small a budget that the image stays right to the end.
    run_attack(network, images, labels, parse_attack("square40", epsilon=1e-4), 0)
    handle.remove()
    # And a few to look at the image before and after.
    assert 40 <= calls < 80


def test_margin_is_positive_exactly_where_misclassified() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    torch.testing.assert_close(margin(logits, torch.tensor([0, 2])), torch.tensor([-1.0, 2.0]))


def test_objectives_equal_their_formulas() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    target = torch.tensor([[0.5, 0.0, 1.0]], dtype=torch.float64)
    p = [math.exp(x) for x in target[0].tolist()]
    q = [math.exp(x) for x in logits[0].tolist()]
    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(kl_to(target)(logits)) == pytest.approx(expected)
    assert float(cross_entropy(logits, torch.tensor([2]))) == pytest.approx(-math.log(q[2]))


def test_gradient_is_that_of_the_sum_over_the_batch() -> None:
    model = nn.Linear(3, 2)
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0])
    whole, _ = gradient_and_logits(model, inputs, lambda z: cross_entropy(z, labels))
    for i in range(4):
        alone = labels[i : i + 1]
        objective = partial(cross_entropy, labels=alone)
        single, _ = gradient_and_logits(model, inputs[i : i + 1], objective)
        torch.testing.assert_close(whole[i : i + 1], single)


def test_momentum_steps_along_the_running_sum_of_normalised_gradients() -> None:
    """Algorithm 1 of Dong et al. 2018 in float64, step by step, on a smooth network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    images = 0.3 + 0.4 * torch.rand(5, 2, 2, 2).double()
    labels = model(images).argmax(1).detach()
    x, g = images.clone(), torch.zeros_like(images)
    epsilon, steps = 0.1, 4
    visited = []
    for _ in range(steps):
        x.requires_grad_()
        loss = nn.functional.cross_entropy(model(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        g = g + gradient / gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
        stepped = x.detach() + epsilon / steps * g.sign()
        x = torch.minimum(torch.maximum(stepped, images - epsilon), images + epsilon).clamp(0, 1)
        visited.append(x)
    margins = torch.stack([margin(model(each), labels) for each in [images, *visited]])
    expected = torch.stack([images, *visited])[margins.argmax(0), torch.arange(5)]
    model.requires_grad_(False)
    found = run_attack(model, images, labels, parse_attack("mi_fgsm4", epsilon=epsilon), 0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "mi_fgsm5", "pgd5", "pgd_trades5", "cw5", "apgd_ce"])
def test_every_norm_has_its_ball(
    name: str, norm: str, network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = (each[:8] for each in images_and_labels)
    epsilon = 1.0 if norm == "l2" else EPSILON
    spec = parse_attack(name, epsilon=epsilon, norm=norm)
    found = run_attack(network, images, labels, spec, 0)
    order = 2 if norm == "l2" else math.inf
    lengths = torch.linalg.vector_norm((found - images).double().flatten(1), ord=order, dim=1)
    assert float(lengths.max()) <= epsilon + 1e-5
    assert float(lengths.max()) > 0.5 * epsilon
    with torch.no_grad():
        before, after = (margin(network(each), labels) for each in (images, found))
    assert float(after.mean()) > float(before.mean()) + 0.1


def test_stopping_at_the_first_error_breaks_the_same_samples(
    network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = images_and_labels
    spec = parse_attack("pgd10", epsilon=EPSILON, restarts=2)
    calls = []
    handle = network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    whole = run_attack(network, images, labels, spec, 0)
    asked = sum(calls)
    calls.clear()
    short = run_attack(network, images, labels, spec, 0, stop_when_fooled=True)
    handle.remove()
    with torch.no_grad():
        wrong = [network(found).argmax(1) != labels for found in (whole, short)]
    assert torch.equal(*wrong)
    assert 0 < int(wrong[0].sum()) < len(labels)
    # Those that were broken early were asked about no more.
    assert sum(calls) < 0.9 * asked
    # In a few sizes of batches only.
    assert {count % (len(labels) // 8) for count in calls} == {0}


@pytest.mark.parametrize("name", ["fgsm", "mi_fgsm10", "pgd10", "cw10"])
def test_a_targeted_attack_raises_its_target(
    name: str, network: nn.Module, images_and_labels: tuple[Tensor, Tensor]
) -> None:
    images, labels = images_and_labels
    spec = parse_attack(name, epsilon=0.4, target="3")
    found = run_attack(network, images, labels, spec, 0)
    with torch.no_grad():
        before, after = network(images).softmax(1)[:, 3], network(found).softmax(1)[:, 3]
    others = labels != 3
    assert float((after > before)[others].float().mean()) > 0.9
    if name != "fgsm":
        reached = network(found).argmax(1) == 3
        assert float(reached[others].float().mean()) > 0.5


@pytest.mark.parametrize("target", ["2", "least_likely", "random"])
def test_a_target_is_never_the_label(target: str) -> None:
    model = nn.Flatten()
    images = torch.rand(50, 1, 1, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 4
    spec = parse_attack("pgd", epsilon=0.1, target=target)
    chosen = targets_of(model, images, labels, spec, torch.Generator().manual_seed(0))
    assert chosen is not None
    assert not bool((chosen == labels).any())
    if target == "2":
        assert bool((chosen[labels != 2] == 2).all())
    if target == "least_likely":
        rest = labels != images.flatten(1).argmin(1)
        assert torch.equal(chosen[rest], images.flatten(1).argmin(1)[rest])
    if target == "random":
        assert set(chosen.tolist()) == {0, 1, 2, 3}


def test_a_target_beyond_the_classes_is_a_sentence() -> None:
    spec = parse_attack("pgd", epsilon=0.1, target="7")
    with pytest.raises(InputError, match="--target-class 7: expected a class from 0 to 3"):
        run_attack(nn.Flatten(), torch.rand(2, 1, 1, 4), torch.tensor([0, 1]), spec, 0)


def test_an_attack_that_cannot_aim_says_so() -> None:
    with pytest.raises(InputError, match="apgd_t cannot aim at a class; fgsm, mi_fgsm"):
        parse_attack("apgd_t", epsilon=0.1, target="3")
