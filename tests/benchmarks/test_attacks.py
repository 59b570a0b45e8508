"""The comparison of attacks: its own parts on a tiny model, and a document made from its lines."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ard.attacks.attempt import margin
from ard.attacks.registry import parse_attack
from ard.attacks.steps.ascent import cross_entropy
from ard.attacks.victims import Victim, weights_victim
from ard.data.datasets import load_dataset
from ard.data.splits import Split, as_float
from ard.models.architectures import build_model
from ard.models.weight_files import save_model
from benchmarks.attacks import compare, report
from benchmarks.attacks.rivals import RIVALS, batches, library, reference, still_right
from benchmarks.documents import filled
from benchmarks.lines import Line, pack, unpack
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.spec import AttackSpec, ModelCard
from edge_bench.statistics.metrics import BoolArray

IMAGES = 12


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A network after a few steps of training, which attacks fool on some images only."""
    torch.manual_seed(0)
    model = build_model("resnet8:4", 1, 10, torch.zeros(1), torch.ones(1)).train()
    train = load_dataset("digits", Path("unused")).train
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for images, labels in list(batches(as_float(train.images), train.labels)) * 5:
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(model(images), labels).mean())
        optimizer.step()
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    card = ModelCard(architecture="resnet8:4", dataset="digits", classes=10, input_shape=(1, 8, 8))
    save_model(path, model, card, False)
    return weights_victim(path)


@pytest.fixture(scope="module")
def split(victim: Victim) -> Split:
    """Images with the labels that the network gives them, so that all are right.

    Half of them are those that it is surest of, the others those that it is least sure of.
    """
    images = load_dataset("digits", Path("unused")).test.images
    with torch.no_grad():
        logits = victim.module(as_float(images))
    labels = logits.argmax(dim=1)
    order = margin(logits, labels).argsort()
    chosen = torch.cat((order[: IMAGES // 2], order[-IMAGES // 2 :]))
    return Split(images[chosen], labels[chosen])


def tiny(part: str, attack: str, **changes: object) -> list[compare.Plan]:
    plan = compare.Plan(part=part, attack=attack, images=IMAGES)
    return [replace(plan, **changes)]  # type: ignore[arg-type]


def lines_of(victim: Victim, split: Split, plans: list[compare.Plan]) -> list[Line]:
    return [run() for _, run in compare.comparisons(victim, split, plans=plans)]


def test_on_the_folded_model_no_sample_ends_otherwise_than_with_the_reference(
    victim: Victim, split: Split
) -> None:
    (line,) = lines_of(victim, split, tiny("alone", "apgd_ce", forms=("folded",)))
    assert line["masks"]["ardx"] == line["masks"]["pyautoattack"]
    assert 0 < unpack(line, "ardx").sum() < unpack(line, "clean").sum() == IMAGES
    assert all(line["seconds"][side]["cpu"] > 0 for side in ("ardx", "pyautoattack"))


def test_the_reference_asks_as_many_queries_as_it_is_told(victim: Victim, split: Split) -> None:
    asked = 0

    class Counting(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            nonlocal asked
            asked += 1
            logits: Tensor = victim.module(images)
            return logits

    # A ball in which nothing is found, so that all queries are asked.
    spec = parse_attack("square7", epsilon=1e-6)
    assert reference(Counting(), as_float(split.images), split.labels, spec).all()
    few, asked = asked, 0
    reference(Counting(), as_float(split.images), split.labels, replace(spec, steps=27))
    assert asked - few == 20


def test_a_rival_that_does_nothing_fools_nobody(
    victim: Victim, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in RIVALS:
        monkeypatch.setitem(RIVALS, name, lambda model, images, labels, spec: images)
    (line,) = lines_of(victim, split, tiny("strength", "pgd20"))
    assert unpack(line, "torchattacks").all()
    assert not unpack(line, "ardx").all()
    assert (unpack(line, "ardx") == unpack(line, "ardx crafting")).all()


def test_a_rival_that_leaves_the_ball_or_the_box_is_an_error(
    victim: Victim, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def far(model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        return (images + 2 * spec.epsilon).clamp(0, 1)

    def out(model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec) -> Tensor:
        return images - spec.epsilon / 2

    for rival in (far, out):
        monkeypatch.setitem(RIVALS, "torchattacks", rival)
        monkeypatch.setitem(RIVALS, "foolbox", rival)
        with pytest.raises(InputError, match="inside the ball and the box"):
            lines_of(victim, split, tiny("strength", "fgsm"))


def test_throughput_times_crafting_and_bare_gradients(victim: Victim, split: Split) -> None:
    lines = lines_of(victim, split, tiny("throughput", "pgd2", seeds=(0, 1)))
    sides = {"ardx crafting", "gradients, as loaded", "gradients, folded"}
    assert [set(line["seconds"]) for line in lines] == [sides, sides]
    rows = report.throughput_table(lines)
    assert [row[1] for row in rows[1:]] == ["2", "2"]


def test_every_comparison_has_an_identifier_of_its_own(victim: Victim, split: Split) -> None:
    names = [name for name, _ in compare.comparisons(victim, split)]
    assert len(names) == len(set(names)) > len(compare.PLANS)


def test_parts_and_forms_may_be_chosen(victim: Victim, split: Split) -> None:
    chosen = compare.comparisons(victim, split, ["alone"], ["folded"])
    assert {tuple(name.split()[1:2] + name.split()[5:6]) for name, _ in chosen} == {
        ("alone", "folded")
    }


def test_sides_take_turns_in_being_first() -> None:
    turns = [compare.in_turns(["a", "b", "c"], seed) for seed in range(3)]
    assert turns == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_a_rival_that_is_missing_is_named_with_the_remedy() -> None:
    with pytest.raises(CapabilityError, match=r"no_such_library.*pip install"):
        library("no_such_library")


def test_masks_are_of_all_batches(victim: Victim, split: Split) -> None:
    images = as_float(split.images).repeat(30, 1, 1, 1)
    assert still_right(victim.module, images, split.labels.repeat(30)).shape == (30 * IMAGES,)


def made(seed: int, masks: dict[str, list[int]], seconds: dict[str, float]) -> Line:
    bits: dict[str, BoolArray] = {k: torch.tensor(v).bool().numpy() for k, v in masks.items()}
    return {
        "part": "strength",
        "model": "tiny",
        "form": "as loaded",
        "attack": "pgd20",
        "norm": "linf",
        "epsilon": 8 / 255,
        "restarts": 1,
        "images": 8,
        "seed": seed,
        "masks": {name: pack(mask) for name, mask in bits.items()},
        "seconds": {name: {"cpu": value, "wall": value} for name, value in seconds.items()},
    }


def test_the_strength_table_counts_who_fools_what_by_seed() -> None:
    clean, half, rival = [1] * 8, [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0, 0]
    seconds = {"torchattacks": 2.0, "ardx": 1.0}
    lines = [
        made(0, {"clean": clean, "ardx": half, "torchattacks": rival}, seconds),
        made(1, {"clean": clean, "ardx": half, "torchattacks": half}, seconds),
    ]
    _, ours, theirs = report.strength_table(lines)
    assert ours[1:3] == ["ardx, evaluation", "50.0"]
    assert theirs[1:3] == ["torchattacks", "56.2"]
    assert theirs[4:] == ["2, 0", "1, 0", "1.00, 1.00"]


def test_the_speed_table_tells_rates_and_ratios_of_the_same_run() -> None:
    clean = {"clean": [1] * 8, "ardx": [0] * 8, "torchattacks": [0] * 8, "ardx crafting": [0] * 8}
    lines = [
        made(seed, clean, {"torchattacks": slow, "ardx": 1.0, "ardx crafting": 2.0})
        for seed, slow in enumerate([2.0, 4.0, 6.0])
    ]
    rows = {row[1]: row[2:] for row in report.speed_table(lines)[1:]}
    assert rows["ardx, evaluation"] == ["8", "", ""]
    assert rows["torchattacks"] == ["2", "4.00 (3.00 to 5.00)", "2.00 (1.50 to 2.50)"]


def test_the_document_holds_exactly_what_the_lines_say() -> None:
    text = report.DOCUMENT.read_text(encoding="utf-8")
    assert text == filled(text, report.maker(report.read(report.LINES)))
    assert set(re.findall(r"<!-- table (.+?) -->", text)) == set(report.TABLES)


def test_what_the_document_says_in_words_is_what_the_lines_say() -> None:
    lines = report.read(report.LINES)
    assert {row[-1] for row in report.agreement_table(lines)[1:]} == {"0"}
    assert {row[-2] for row in report.agreement_table(lines)[1:]} == {"0"}
    for row in report.strength_table(lines)[1:]:
        assert "<" not in row[-1], row
    shares = {row[0]: float(row[2].split()[0]) for row in report.throughput_table(lines)[1:]}
    assert shares["resnet8: gradients, as loaded"] > 1 > shares["resnet8: gradients, folded"] > 0.94
    for group in report.grouped(lines, ("ensemble", "rounds")):
        if group[0]["form"] == "as loaded":
            assert report.median(report.ratios(group, "pyautoattack", "ardx")) > 1


def test_no_line_is_of_a_comparison_that_is_not_planned() -> None:
    planned = {
        (plan.part, plan.attack, plan.norm, plan.restarts, form, plan.images, seed)
        for plan in compare.PLANS
        for form in plan.forms
        for seed in plan.seeds
    }
    keys = ("part", "attack", "norm", "restarts", "form", "images", "seed")
    lines = report.read(report.LINES)
    assert {tuple(line[key] for key in keys) for line in lines} <= planned
