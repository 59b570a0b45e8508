"""The ranking losses against float64 loops written out from the formulas of the method."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ard.ranking import levels as ranking
from ard.ranking import pairs
from ard.ranking.emphasis import reliability
from ard.ranking.levels import (
    RankingOptions,
    kendall_agreement,
    ranking_losses,
    spearman_agreement,
)
from ard.ranking.pairs import soft_ranks

Row = list[float]


def sign(x: float) -> float:
    return float((x > 0) - (x < 0))


def reference_kendall(
    a: Row, b: Row, k: float, normalisation: str, hard: bool, weights: Row | None = None
) -> float:
    """Every pair (i, j) counts w_i + w_j times; once where there are no weights."""
    w = weights or [0.5] * len(a)
    ab = aa = bb = count = 0.0
    for i in range(len(a)):
        for j in range(i + 1, len(a)):
            t_a = math.tanh(k * (a[i] - a[j]))
            t_b = sign(b[i] - b[j]) if hard else math.tanh(k * (b[i] - b[j]))
            c = w[i] + w[j]
            ab, aa, bb, count = ab + c * t_a * t_b, aa + c * t_a**2, bb + c * t_b**2, count + c
    return ab / (math.sqrt(aa * bb) if normalisation == "cosine" else count)


def reference_ranks(a: Row, k: float, hard: bool) -> Row:
    return [
        sum(sign(x - y) if hard else math.tanh(k * (x - y)) for j, y in enumerate(a) if j != i)
        for i, x in enumerate(a)
    ]


def reference_spearman(a: Row, b: Row, k: float, hard: bool) -> float:
    r, s = reference_ranks(a, k, False), reference_ranks(b, k, hard)
    mean_r, mean_s = sum(r) / len(r), sum(s) / len(s)
    covariance = sum((x - mean_r) * (y - mean_s) for x, y in zip(r, s, strict=True))
    variance_r = sum((x - mean_r) ** 2 for x in r)
    variance_s = sum((y - mean_s) ** 2 for y in s)
    return covariance / math.sqrt(variance_r * variance_s)


def reference_zscore(a: Row) -> Row:
    mean = sum(a) / len(a)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in a) / len(a))
    return [(x - mean) / deviation for x in a]


def reference_softmax(a: Row) -> Row:
    total = sum(math.exp(x) for x in a)
    return [math.exp(x) / total for x in a]


def reference_distance(a: Row, b: Row, o: RankingOptions, weights: list[Row]) -> float:
    """Mean over the pairs of the squared difference of their comparisons."""
    total = count = 0.0
    for i, j in itertools.combinations(range(len(a)), 2):
        t_b = sign(b[i] - b[j]) if o.hard_teacher else math.tanh(o.k * (b[i] - b[j]))
        total += weights[i][j] * (math.tanh(o.k * (a[i] - a[j])) - t_b) ** 2
        count += weights[i][j]
    return total / count


def reference_with_label(
    student: Row, teacher: Row, ranked: Row, label: int, o: RankingOptions
) -> float:
    """The pairs that hold the label alone, by how close the teacher's logits `ranked` are."""
    likeliest = sorted(range(len(ranked)), key=lambda j: -ranked[j])[: o.top or None]
    others = [j for j in likeliest if j != label]
    near = {j: math.exp(-abs(ranked[label] - ranked[j])) for j in others}
    ab = aa = bb = 0.0
    for j in others:
        w = near[j] / sum(near.values())
        t_a = math.tanh(o.k * (student[label] - student[j]))
        difference = teacher[label] - teacher[j]
        t_b = sign(difference) if o.hard_teacher else math.tanh(o.k * difference)
        ab, aa, bb = ab + w * t_a * t_b, aa + w * t_a**2, bb + w * t_b**2
    if o.form == "distance":
        return aa - 2 * ab + bb
    return 1 - (ab / math.sqrt(aa * bb) if o.normalisation == "cosine" else ab)


def scaled(student: Row, teacher: Row, o: RankingOptions, scale: Row | None) -> tuple[Row, Row]:
    if o.space == "zscore":
        return reference_zscore(student), reference_zscore(teacher)
    if o.space == "teacher_scale":
        rows = scale or teacher
        mean = sum(rows) / len(rows)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in rows) / len(rows))
        return [x / deviation for x in student], [x / deviation for x in teacher]
    return student, teacher


def reference_disagreement(
    student: Row,
    teacher: Row,
    o: RankingOptions,
    weights: Row | None = None,
    *,
    ranked: Row | None = None,
    label: int | None = None,
    scale: Row | None = None,
) -> float:
    """1 - agreement, or the distance, of one row; probabilities are taken already.

    Between classes `ranked` are the teacher's logits that priority and `top` go by.
    """
    a, b = scaled(student, teacher, o, scale)
    if ranked is not None and label is not None and o.priority == "label":
        return reference_with_label(a, b, ranked, label, o)
    if ranked is not None and o.top:
        kept = sorted(range(len(ranked)), key=lambda j: -ranked[j])[: o.top]
        a, b = [a[j] for j in kept], [b[j] for j in kept]
        weights = [weights[j] for j in kept] if weights else None
    if o.form == "distance" and o.agreement == "kendall":
        w = weights or [0.5] * len(a)
        return reference_distance(a, b, o, [[x + y for y in w] for x in w])
    if o.form == "distance":
        r, s = reference_ranks(a, o.k, False), reference_ranks(b, o.k, o.hard_teacher)
        n = len(a)
        return sum(((x - y) / (n - 1)) ** 2 for x, y in zip(r, s, strict=True)) / n
    if o.agreement == "kendall":
        return 1 - reference_kendall(a, b, o.k, o.normalisation, o.hard_teacher, weights)
    return 1 - reference_spearman(a, b, o.k, o.hard_teacher)


def reference_reliability(rows: list[Row], labels: list[int], o: RankingOptions) -> Row:
    """Of each sample, with mean 1."""
    if o.reliability == "none":
        return [1.0] * len(rows)
    probabilities = [reference_softmax(row) for row in rows]
    if o.reliability == "label":
        each = [p[y] for p, y in zip(probabilities, labels, strict=True)]
    else:
        each = [1 + sum(x * math.log(x) for x in p) / math.log(len(p)) for p in probabilities]
    return [len(each) * r / sum(each) for r in each]


def reference_losses(
    four: list[list[Row]], o: RankingOptions, labels: list[int] | None = None
) -> dict[str, float]:
    """All levels of the method, one sample, class and pair at a time."""
    adversarial = four[3] if o.teacher_input == "adversarial" else four[2]
    labels = labels or [0] * len(adversarial)
    s_clean, s_adv, t_clean, t_adv = (
        [reference_softmax(row) for row in z] if o.space == "probabilities" else z for z in four
    )
    teacher = t_adv if o.teacher_input == "adversarial" else t_clean

    def between_classes(
        student: list[Row],
        teacher: list[Row],
        ranked: list[Row],
        scales: list[Row] | None = None,
    ) -> float:
        trust = reference_reliability(ranked, labels, o)
        priority = [reference_softmax(row) for row in ranked] if o.priority == "teacher" else None
        each = [
            trust[i]
            * reference_disagreement(
                student[i],
                teacher[i],
                o,
                priority[i] if priority else None,
                ranked=ranked[i],
                label=labels[i],
                scale=scales[i] if scales else None,
            )
            for i in range(len(student))
        ]
        return sum(each) / len(each)

    def columns(z: list[Row]) -> list[Row]:
        return [list(column) for column in zip(*z, strict=True)]

    def minus(x: list[Row], y: list[Row]) -> list[Row]:
        return [[p - q for p, q in zip(a, b, strict=True)] for a, b in zip(x, y, strict=True)]

    def between_samples(student: list[Row], teacher: list[Row], ranked: list[Row]) -> float:
        trust = reference_reliability(ranked, labels, o)
        weights = None if o.reliability == "none" else trust
        each = [
            reference_disagreement(a, b, o, weights)
            for a, b in zip(columns(student), columns(teacher), strict=True)
        ]
        return sum(each) / len(each)

    changes = minus(s_clean, s_adv), minus(t_clean, t_adv)
    return {
        "class": between_classes(s_adv, teacher, adversarial),
        "sample": between_samples(s_adv, teacher, adversarial),
        "discrepancy": between_classes(*changes, adversarial, t_clean),
        # The teacher is asked about the images that are ranked, whatever its input is above.
        "class_clean": between_classes(s_clean, t_clean, four[2]),
        "sample_clean": between_samples(s_clean, t_clean, four[2]),
    }


def logits(count: int, rows: int, n: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        2 * torch.randn(rows, n, dtype=torch.float64, generator=generator) for _ in range(count)
    ]


def labels_of(rows: int, n: int) -> list[int]:
    return [(3 * row + 1) % n for row in range(rows)]


def losses_of(four: list[Tensor], options: RankingOptions) -> dict[str, Tensor]:
    s_clean, s_adv, t_clean, t_adv = four
    labels = torch.tensor(labels_of(*s_clean.shape))
    return ranking_losses(s_clean, s_adv, t_clean, t_adv, options, labels)


OPTIONS = [
    RankingOptions(
        agreement=agreement,
        space=space,
        k=k,
        normalisation=normalisation,
        hard_teacher=hard,
        teacher_input=teacher_input,
        priority=priority,
    )
    for agreement, space, k, normalisation, hard, teacher_input, priority in [
        ("kendall", "zscore", 2.0, "pairs", False, "adversarial", "uniform"),
        ("kendall", "zscore", 2.0, "cosine", False, "adversarial", "uniform"),
        ("kendall", "logits", 0.7, "pairs", True, "adversarial", "uniform"),
        ("kendall", "probabilities", 30.0, "cosine", True, "clean", "uniform"),
        ("kendall", "zscore", 2.0, "pairs", False, "adversarial", "teacher"),
        ("kendall", "logits", 0.7, "cosine", False, "clean", "teacher"),
        ("kendall", "probabilities", 30.0, "pairs", False, "adversarial", "teacher"),
        ("spearman", "zscore", 2.0, "pairs", False, "clean", "uniform"),
        ("spearman", "logits", 0.5, "pairs", False, "adversarial", "uniform"),
        ("spearman", "probabilities", 20.0, "pairs", True, "adversarial", "uniform"),
    ]
]

FORMS = [
    RankingOptions(form="distance"),
    RankingOptions(form="distance", hard_teacher=True, space="logits", k=0.7),
    RankingOptions(form="distance", agreement="spearman", teacher_input="clean"),
    RankingOptions(form="distance", space="teacher_scale", k=1.3),
    RankingOptions(form="distance", space="probabilities", k=9.0, priority="teacher"),
    RankingOptions(space="teacher_scale", teacher_input="clean"),
    RankingOptions(space="teacher_scale", agreement="spearman", top=3),
    RankingOptions(priority="label"),
    RankingOptions(priority="label", normalisation="cosine", teacher_input="clean"),
    RankingOptions(priority="label", hard_teacher=True, space="logits", top=2),
    RankingOptions(priority="label", form="distance", space="teacher_scale", k=0.9),
    RankingOptions(priority="teacher", form="distance", top=4),
    RankingOptions(top=2, normalisation="cosine"),
    RankingOptions(top=100),
    RankingOptions(reliability="label"),
    RankingOptions(reliability="entropy", form="distance", teacher_input="clean"),
    RankingOptions(reliability="label", priority="label", form="distance", top=3),
]
EVERY_OPTION = [
    replace(each, weight_class_clean=1.0, weight_sample_clean=1.0) for each in (*OPTIONS, *FORMS)
]


@pytest.mark.parametrize("options", EVERY_OPTION, ids=str)
@pytest.mark.parametrize(("rows", "n"), [(4, 7), (5, 6), (3, 2), (2, 3)])
def test_losses_equal_the_written_out_formulas(options: RankingOptions, rows: int, n: int) -> None:
    four = logits(4, rows, n)
    found = losses_of(four, options)
    expected = reference_losses([z.tolist() for z in four], options, labels_of(rows, n))
    assert found.keys() == expected.keys()
    for level, value in expected.items():
        assert float(found[level]) == pytest.approx(value, abs=1e-12), level


@pytest.mark.parametrize("side", [1, 2, 3, 100])
@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_the_block_size_changes_nothing(side: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MIN_SIDE", side)
    monkeypatch.setattr(pairs, "BLOCK_COMPARISONS", 0)
    a, b = logits(2, 3, n)
    rows = list(zip(a.tolist(), b.tolist(), strict=True))
    kendall = [reference_kendall(x, y, 1.5, "cosine", False) for x, y in rows]
    spearman = [reference_spearman(x, y, 1.5, False) for x, y in rows]
    found = kendall_agreement(a, b, 1.5, normalisation="cosine")
    torch.testing.assert_close(found, torch.tensor(kendall, dtype=torch.float64))
    torch.testing.assert_close(
        spearman_agreement(a, b, 1.5), torch.tensor(spearman, dtype=torch.float64)
    )


@pytest.mark.parametrize("side", [1, 2, 100])
@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("agreement", ["pairs", "cosine", "spearman"])
def test_gradients_are_those_of_the_values(
    agreement: str, hard: bool, n: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "MIN_SIDE", side)
    monkeypatch.setattr(pairs, "BLOCK_COMPARISONS", 0)
    a, b = (z.requires_grad_() for z in logits(2, 3, n, seed=1))

    def value(x: Tensor, y: Tensor) -> Tensor:
        teacher = y.detach() if hard else y
        if agreement == "spearman":
            return spearman_agreement(x, teacher, 0.8, hard_b=hard)
        return kendall_agreement(x, teacher, 0.8, normalisation=agreement, hard_b=hard)

    assert torch.autograd.gradcheck(value, (a, b))


@pytest.mark.parametrize("widest", [1e-3, 1.0, 60.0, 78.0, 79.0, 100.0, 1e6])
def test_comparisons_in_float32_hold_at_any_range_of_scores(widest: float) -> None:
    """As ratios of exponentials up to a range of 78.6, which neither overflow nor vanish there."""
    (scores,) = logits(1, 3, 9, seed=7)
    spread = scores.amax(dim=1, keepdim=True) - scores.amin(dim=1, keepdim=True)
    wide = (scores / spread * widest).float()
    ranks = [reference_ranks(row, 1.0, False) for row in wide.tolist()]
    torch.testing.assert_close(soft_ranks(wide, 1.0), torch.tensor(ranks), atol=1e-5, rtol=1e-5)
    found = wide.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(soft_ranks(found, 1.0)[:, 0].sum(), found)
    exact = wide.double().requires_grad_()
    differences = exact[:, :1] - exact
    (expected,) = torch.autograd.grad(differences.tanh().sum(), exact)
    torch.testing.assert_close(gradient, expected.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", EVERY_OPTION, ids=str)
def test_the_whole_loss_passes_gradcheck(options: RankingOptions) -> None:
    s_clean, s_adv, t_clean, t_adv = logits(4, 4, 5, seed=2)

    def loss(clean: Tensor, adversarial: Tensor) -> Tensor:
        return torch.stack(list(losses_of([clean, adversarial, t_clean, t_adv], options).values()))

    assert torch.autograd.gradcheck(loss, (s_clean.requires_grad_(), s_adv.requires_grad_()))


@pytest.mark.parametrize("agreement", ["cosine", "spearman"])
@pytest.mark.parametrize("k", [1e9, 1.0, 1e-3, 1e-6])
def test_equal_scores_agree_at_any_steepness_and_equal_elements_with_nothing(
    agreement: str, k: float
) -> None:
    def agreed(a: Tensor, b: Tensor, k: float) -> Tensor:
        if agreement == "spearman":
            return spearman_agreement(a, b, k)
        return kendall_agreement(a, b, k, normalisation="cosine")

    scores = logits(1, 3, 9, seed=5)[0].float()
    found = scores.clone().requires_grad_()
    torch.testing.assert_close(agreed(found, scores, k), torch.ones(3))
    (pull,) = torch.autograd.grad(agreed(found, scores.flip(1), k).sum(), found)
    assert bool((pull != 0).any()) == (k < 1e9)
    assert float(pull.abs().max()) < 10
    for other, least in ((torch.ones(3, 9), k), (scores, 1e-30)):
        flat = other.clone().requires_grad_()
        value = agreed(flat, scores, least)
        (pull,) = torch.autograd.grad(value.sum(), flat)
        assert (value.tolist(), float(pull.abs().max())) == ([0, 0, 0], 0)


@pytest.mark.parametrize("agreement", ["kendall", "spearman"])
@pytest.mark.parametrize("normalisation", ["pairs", "cosine"])
def test_equal_orders_cost_nothing_and_reversed_orders_the_most_in_saturation(
    agreement: str, normalisation: str
) -> None:
    options = RankingOptions(
        agreement=agreement, normalisation=normalisation, space="logits", k=1e9
    )
    clean, adversarial = logits(2, 6, 9, seed=3)
    # The same order with other values: a ranking does not see monotone maps.
    same = ranking_losses(clean**3, adversarial, clean**3, adversarial.exp(), options)
    assert float(same["class"]) == pytest.approx(0, abs=1e-9)
    assert float(same["sample"]) == pytest.approx(0, abs=1e-9)
    equal = ranking_losses(clean, adversarial, clean, adversarial, options)
    assert float(equal["discrepancy"]) == pytest.approx(0, abs=1e-9)
    turned = ranking_losses(-clean, -adversarial, clean, adversarial, options)
    for level, value in turned.items():
        assert float(value) == pytest.approx(2, abs=1e-9), level


@pytest.mark.parametrize("space", ["zscore", "teacher_scale", "logits"])
@pytest.mark.parametrize("priority", ["uniform", "teacher", "label"])
def test_a_distance_is_lowest_at_the_teacher_and_an_agreement_beyond_it(
    space: str, priority: str
) -> None:
    clean, adversarial = logits(2, 4, 5, seed=8)
    for form, still in (("distance", True), ("agreement", False)):
        options = RankingOptions(form=form, space=space, priority=priority, k=0.8)
        student = [z.clone().requires_grad_() for z in (clean, adversarial)]
        levels = losses_of([*student, clean, adversarial], options)
        pull = torch.autograd.grad(torch.stack(list(levels.values())).sum(), student)
        assert (max(float(each.abs().max()) for each in pull) < 1e-12) == still, form
        if still:
            assert max(float(level.detach()) for level in levels.values()) < 1e-12


def test_the_scale_of_the_teacher_leaves_that_of_the_student_to_be_seen() -> None:
    four = logits(4, 5, 6, seed=4)
    s_clean, s_adv, t_clean, t_adv = four
    for space, sees in (("zscore", False), ("teacher_scale", True)):
        options = RankingOptions(form="distance", space=space)
        plain = losses_of(four, options)
        larger = losses_of([3 * s_clean, 3 * s_adv, t_clean, t_adv], options)
        both = losses_of([3 * z for z in four], options)
        for level in plain:
            assert (abs(float(larger[level] - plain[level])) > 1e-3) == sees, (space, level)
            assert float(both[level]) == pytest.approx(float(plain[level]), abs=1e-12)


def test_a_teacher_without_an_order_asks_for_nothing_at_its_scale() -> None:
    flat, (student,) = torch.zeros(3, 5), logits(1, 3, 5)
    options = RankingOptions(form="distance", space="teacher_scale")
    adversarial = student.float().requires_grad_()
    levels = losses_of([student.float(), adversarial, flat, flat], options)
    total = torch.stack(list(levels.values())).sum()
    (gradient,) = torch.autograd.grad(total, adversarial)
    assert float(total.detach()) == 0
    assert float(gradient.abs().max()) == 0


def test_the_top_classes_cost_no_more_than_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(a: Tensor, *rest: object) -> object:
        seen.append(a.shape[1])
        return pairs.pair_sums(a, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ranking, "pair_sums", counting)
    losses_of(logits(4, 3, 900), RankingOptions(top=10, weight_sample=0))
    losses_of(logits(4, 3, 900), RankingOptions(priority="label", weight_sample=0))
    assert seen == [10, 10]


def test_a_fooled_teacher_is_heard_less() -> None:
    """Of two samples, the one whose label the teacher has lost hardly counts."""
    teacher = torch.tensor([[4.0, 0, 0], [0, 4.0, 0]], dtype=torch.float64)
    labels = torch.tensor([0, 0])
    trust = reliability(teacher, labels, "label")
    assert trust is not None
    assert float(trust[0] / trust[1]) == pytest.approx(math.exp(4))
    assert float(trust.mean()) == pytest.approx(1)
    unsure = torch.cat((teacher[:1], torch.zeros(1, 3, dtype=torch.float64)))
    by_entropy = reliability(unsure, None, "entropy")
    assert by_entropy is not None
    assert by_entropy.tolist() == pytest.approx([2, 0])


@pytest.mark.parametrize("kind", ["entropy", "label"])
def test_a_batch_in_which_the_teacher_is_trusted_nowhere_is_trusted_alike(kind: str) -> None:
    """By entropy rounding leaves 1e-7 of either sign; a probability may be too small a float."""
    says_nothing = torch.zeros(4, 7)
    certain = torch.tensor([[0.0, 300, 0]] * 4)
    labels = torch.zeros(4, dtype=torch.long)
    trust = reliability(says_nothing if kind == "entropy" else certain, labels, kind)
    assert trust is not None
    assert trust.tolist() == [1.0] * 4
