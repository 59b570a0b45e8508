"""One pure function of logits per published method; the training loop never knows which.

To add a method: a function here and an entry in LOSSES. All reductions are means over the batch
and sums over classes, whatever the authors' code averages over, so that one learning rate suits
all. A constant that is left at None takes the value published for CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from ard.methods.ranking import RankingOptions, ranking_losses
from edge_bench.core.errors import InputError

ANCHORS = {"rslad": "rslad", "ce": "pgd_at", "adaad": "adaad", "igdm": "igdm"}
"""The method whose objective each anchor of ARD is, with its constants."""

NOTHING = torch.empty(0)

# A probability is kept this far from 1 before its complement's logarithm is taken (MART).
PROBABILITY_EPS = 1e-7

MTARD_RATE = 0.025
"""How fast MTARD's weights follow the losses, per step (its published value)."""

IAD_WARM_UP = 0.3
"""Share of the training in which IAD trusts its teacher alone: 60 of the authors' 200 epochs."""


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Settings of the objectives; each method reads its own. None is the published value.

    Attributes:
        alpha: weight of the distillation term: goldblum_ard (1), igdm's module (1; for CIFAR-100
            its authors take 20), dist_adv's cross-entropy (1); share of the term on adversarial
            images: adaad (1), rslad (5/6).
        beta: weight of the robust term of trades (6) and mart (5); exponent of iad (0.1); weight
            of dist_adv's relations within a sample (2).
        gamma: weight of dist_adv's relations between samples (2).
        temperature: of the softmax in goldblum_ard (30), dist_adv (4), iad (1), and of the
            anchor of ard (1).
        anchor: of ARD: what fixes the scale that a ranking is blind to: the objective `rslad`,
            `adaad` or `igdm`, or `ce`, cross-entropy on adversarial images.
        ranking: the ranking terms of ARD, and the inner objective `ranking`.
    """

    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    temperature: float | None = None
    anchor: str = "rslad"
    ranking: RankingOptions = field(default_factory=RankingOptions)

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise InputError(f"--anchor {self.anchor}: expected one of {', '.join(ANCHORS)}")
        weights = (("loss.alpha", self.alpha), ("--beta", self.beta), ("loss.gamma", self.gamma))
        for option, weight in weights:
            if weight is not None and not 0 <= weight < inf:
                raise InputError(f"{option} {weight:g}: expected a weight of 0 or more")
        if self.temperature is not None and not 0 < self.temperature < inf:
            raise InputError(f"loss.temperature {self.temperature:g}: expected a value above 0")

    @property
    def progress(self) -> float:
        """Share of the training that is done: all of it, unless `at` says otherwise."""
        return 1.0

    def at(self, progress: float) -> LossOptions:
        """The options in force when this share (0 to 1) of the training is done."""
        given = {each.name: getattr(self, each.name) for each in fields(LossOptions)}
        return _OptionsAt(**given | {"ranking": self.ranking.at(progress), "progress": progress})


@dataclass(frozen=True, kw_only=True)
class _OptionsAt(LossOptions):
    """Options at one moment of a training. The moment is no setting, so no field of the above."""

    progress: float = 1.0


@dataclass(frozen=True)
class Logits:
    """What one step computed, each (B, C) or empty where the method does not need it.

    Mirrored images lie opposite the adversarial ones, at 2 x - x'. The second teacher is the
    clean-trained one of methods with two teachers.
    """

    student_clean: Tensor = NOTHING
    student_adversarial: Tensor = NOTHING
    teacher_clean: Tensor = NOTHING
    teacher_adversarial: Tensor = NOTHING
    student_mirrored: Tensor = NOTHING
    teacher_mirrored: Tensor = NOTHING
    second_teacher_clean: Tensor = NOTHING


STUDENT_CLEAN, STUDENT_ADVERSARIAL = "student_clean", "student_adversarial"
TEACHER_CLEAN, TEACHER_ADVERSARIAL = "teacher_clean", "teacher_adversarial"
STUDENT_MIRRORED, TEACHER_MIRRORED = "student_mirrored", "teacher_mirrored"
SECOND_TEACHER_CLEAN = "second_teacher_clean"

Terms = dict[str, Tensor]
"""Weighted terms of a loss by name, scalars."""

Balance = Callable[[Tensor, Terms], tuple[dict[str, float], Tensor]]
"""(memory, unweighted terms) to (weight by term, new memory); the first memory is empty."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A published objective and what it needs from the loop.

    Attributes:
        source: the paper.
        terms: weighted terms of the loss by name; their sum is minimised.
        needs: which fields of `Logits` the terms read; see `logits_needed`.
        inner: objective that its inner maximisation ascends (see `attacks.INNER_OBJECTIVES`);
            None for training without attack.
        balance: reweighs the terms by what it remembers of earlier steps; None for constant
            weights.
    """

    source: str
    terms: Callable[[Logits, Tensor, LossOptions], Terms]
    needs: frozenset[str]
    inner: str | None
    balance: Balance | None = None

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.needs & {TEACHER_CLEAN, TEACHER_ADVERSARIAL})

    @property
    def needs_second_teacher(self) -> bool:
        """Whether a teacher trained on clean images is needed too."""
        return SECOND_TEACHER_CLEAN in self.needs


def published(value: float | None, default: float) -> float:
    """The given constant, or the published one."""
    return default if value is None else value


def _share(alpha: float | None, default: float) -> float:
    """An alpha that leaves 1 - alpha to another term."""
    share = published(alpha, default)
    if share > 1:
        raise InputError(
            f"loss.alpha {share:g}: expected a share from 0 to 1, since the other term of this "
            "objective gets the rest"
        )
    return share


def kl_divergence_each(student: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(target / T) || softmax(student / T)) of logits (B, C), per sample (B,)."""
    return F.kl_div(
        (student / temperature).log_softmax(dim=1),
        (target / temperature).log_softmax(dim=1),
        log_target=True,
        reduction="none",
    ).sum(dim=1)


def kl_divergence(student: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over the batch of `kl_divergence_each`."""
    return kl_divergence_each(student, target, temperature).mean()


def natural_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Cross-entropy on clean images: training without any defence."""
    return {"ce": F.cross_entropy(logits.student_clean, labels)}


def pgd_at_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Madry et al. 2018, eq. 2.1: cross-entropy on adversarial images."""
    return {"ce": F.cross_entropy(logits.student_adversarial, labels)}


def trades_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zhang et al. 2019 (TRADES): CE(x) + beta KL(S(x) || S(x'))."""
    robust = kl_divergence(logits.student_adversarial, logits.student_clean)
    return {
        "ce": F.cross_entropy(logits.student_clean, labels),
        "kl": published(options.beta, 6.0) * robust,
    }


def mart_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Wang et al. 2020 (MART): boosted CE(x') + beta KL(S(x) || S(x')) (1 - p_y(x)).

    The boost adds -log(1 - max_{c != y} p_c(x')).
    """
    probabilities = logits.student_adversarial.softmax(dim=1)
    others = probabilities.scatter(1, labels.unsqueeze(1), 0.0).amax(dim=1)
    boost = -torch.log1p(-others.clamp_max(1 - PROBABILITY_EPS)).mean()
    confidence = logits.student_clean.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    divergence = kl_divergence_each(logits.student_adversarial, logits.student_clean)
    return {
        "ce": F.cross_entropy(logits.student_adversarial, labels) + boost,
        "kl": published(options.beta, 5.0) * (divergence * (1 - confidence)).mean(),
    }


def goldblum_ard_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Goldblum et al. 2020 (Adversarially Robust Distillation).

    alpha t^2 KL(T(x) / t || S(x') / t) + (1 - alpha) CE(S(x)), with alpha 1 and t 30.
    """
    alpha, temperature = published(options.alpha, 1.0), published(options.temperature, 30.0)
    soft = kl_divergence(logits.student_adversarial, logits.teacher_clean, temperature)
    terms = {"kl_adversarial": alpha * temperature**2 * soft}
    if alpha != 1:
        terms["ce"] = (1 - alpha) * F.cross_entropy(logits.student_clean, labels)
    return terms


def iad_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zhu et al. 2022 (IAD-I): where the teacher is wrong, the student heeds itself as well.

    t^2 KL(T(x) / t || S(x') / t) + (1 - p_T(y | x')^beta) KL(S(x) || S(x')), the second term after
    a warm-up, with beta 0.1 and t 1. As in the authors' code, the first term has the same weight
    for every sample, and a temperature does not touch the second.
    """
    temperature = published(options.temperature, 1.0)
    student = logits.student_adversarial
    truth = logits.teacher_adversarial.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    distrust = 1 - truth.pow(published(options.beta, 0.1))
    own = (distrust * kl_divergence_each(student, logits.student_clean)).mean()
    return {
        "kl_teacher": temperature**2 * kl_divergence(student, logits.teacher_clean, temperature),
        "kl_self": float(options.progress >= IAD_WARM_UP) * own,
    }


def rslad_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zi et al. 2021 (RSLAD): alpha KL(T(x) || S(x')) + (1 - alpha) KL(T(x) || S(x)), 5/6."""
    alpha = _share(options.alpha, 5 / 6)
    return {
        "kl_adversarial": alpha * kl_divergence(logits.student_adversarial, logits.teacher_clean),
        "kl_clean": (1 - alpha) * kl_divergence(logits.student_clean, logits.teacher_clean),
    }


def adaad_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Huang et al. 2023 (AdaAD): alpha KL(T(x') || S(x')) + (1 - alpha) KL(T(x) || S(x)).

    With alpha 1; its inner maximisation ascends KL(T(x') || S(x')) through both networks.
    """
    alpha = _share(options.alpha, 1.0)
    robust = kl_divergence(logits.student_adversarial, logits.teacher_adversarial)
    terms = {"kl_adversarial": alpha * robust}
    if alpha != 1:
        terms["kl_clean"] = (1 - alpha) * kl_divergence(logits.student_clean, logits.teacher_clean)
    return terms


def igdm_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Lee et al. 2025 (IGDM), eqs. 8 and 9, on AdaAD: output differences for input gradients.

    KL(T(x') || S(x')) + alpha p KL(T(x') - T(2x - x') || S(x') - S(2x - x')) of logits, where p
    rises from 0 to 1 over the training as in the authors' code, with alpha 1.
    """
    student = logits.student_adversarial - logits.student_mirrored
    teacher = logits.teacher_adversarial - logits.teacher_mirrored
    weight = published(options.alpha, 1.0) * options.progress
    return {
        "kl_adversarial": kl_divergence(logits.student_adversarial, logits.teacher_adversarial),
        "gradient": weight * kl_divergence(student, teacher),
    }


def mtard_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Zhao et al. 2022 (MTARD): a robust teacher on x', a clean one on x."""
    return {
        "kl_adversarial": kl_divergence(logits.student_adversarial, logits.teacher_adversarial),
        "kl_clean": kl_divergence(logits.student_clean, logits.second_teacher_clean),
    }


def mtard_balance(memory: Tensor, terms: Terms) -> tuple[dict[str, float], Tensor]:
    """Zhao et al. 2022: the term that has fallen less since the start comes to weigh more.

    Memory: the first values of both terms, and the weights (half each at first). The authors
    lower the rate together with their learning rate; here it stays.
    """
    values = torch.stack([term.detach().double().cpu() for term in terms.values()])
    first, weights = (values, torch.full((2,), 0.5)) if memory.numel() == 0 else memory.chunk(2)
    relative = values / first
    weights = weights + MTARD_RATE * (relative / relative.sum() - weights)
    return dict(zip(terms, weights.tolist(), strict=True)), torch.cat([first, weights])


def dist_adv_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """Huang et al. 2022 (DIST), on adversarial logits.

    alpha CE(x') + t^2 (beta (1 - Pearson over classes) + gamma (1 - Pearson over samples)) of
    softmax(Z(x') / t), with alpha 1, beta and gamma 2 and t 4.
    """
    temperature = published(options.temperature, 4.0)
    student = (logits.student_adversarial / temperature).softmax(dim=1)
    teacher = (logits.teacher_adversarial / temperature).softmax(dim=1)
    within, between = _correlation(student, teacher), _correlation(student.t(), teacher.t())
    ce = F.cross_entropy(logits.student_adversarial, labels)
    return {
        "ce": published(options.alpha, 1.0) * ce,
        "within": published(options.beta, 2.0) * temperature**2 * (1 - within),
        "between": published(options.gamma, 2.0) * temperature**2 * (1 - between),
    }


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of Pearson's correlation."""
    centred_a, centred_b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return F.cosine_similarity(centred_a, centred_b, dim=1).mean()


def ard_terms(logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
    """ARD (doi 10.7544/issn1000-1239.202550339): an anchor and three ranking levels."""
    temperature = published(options.temperature, 1.0) if options.anchor != "ce" else 1.0
    softened = Logits(*(z / temperature for z in vars(logits).values()))
    anchored = LOSSES[ANCHORS[options.anchor]].terms(softened, labels, options)
    anchor = temperature**2 * total(anchored)
    ranking = options.ranking
    weights = {
        "class": ranking.weight_class,
        "sample": ranking.weight_sample,
        "discrepancy": ranking.weight_discrepancy,
        "class_clean": ranking.weight_class_clean,
        "sample_clean": ranking.weight_sample_clean,
    }
    levels = ranking_losses(
        logits.student_clean,
        logits.student_adversarial,
        logits.teacher_clean,
        logits.teacher_adversarial,
        ranking,
        labels,
    )
    return {"anchor": anchor} | {name: weights[name] * loss for name, loss in levels.items()}


LOSSES: dict[str, Method] = {
    "natural": Method(
        source="no defence",
        terms=natural_terms,
        needs=frozenset({STUDENT_CLEAN}),
        inner=None,
    ),
    "pgd_at": Method(
        source="Madry et al. 2018, arXiv 1706.06083",
        terms=pgd_at_terms,
        needs=frozenset({STUDENT_ADVERSARIAL}),
        inner="ce",
    ),
    "trades": Method(
        source="Zhang et al. 2019, arXiv 1901.08573",
        terms=trades_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL}),
        inner="kl_self",
    ),
    "mart": Method(
        source="Wang et al. 2020, ICLR",
        terms=mart_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL}),
        inner="ce",
    ),
    "goldblum_ard": Method(
        source="Goldblum et al. 2020, arXiv 1905.09747",
        terms=goldblum_ard_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN}),
        inner="ce",
    ),
    "iad": Method(
        source="Zhu et al. 2022, arXiv 2106.04928",
        terms=iad_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN, TEACHER_ADVERSARIAL}),
        inner="ce",
    ),
    "rslad": Method(
        source="Zi et al. 2021, arXiv 2108.07969",
        terms=rslad_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN}),
        inner="kl_clean",
    ),
    "adaad": Method(
        source="Huang et al. 2023, CVPR",
        terms=adaad_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN, TEACHER_ADVERSARIAL}),
        inner="adaad",
    ),
    "mtard": Method(
        source="Zhao et al. 2022, ECCV",
        terms=mtard_terms,
        needs=frozenset(
            {STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_ADVERSARIAL, SECOND_TEACHER_CLEAN}
        ),
        inner="ce",
        balance=mtard_balance,
    ),
    "igdm": Method(
        source="Lee et al. 2025, arXiv 2312.03286",
        terms=igdm_terms,
        needs=frozenset(
            {STUDENT_ADVERSARIAL, TEACHER_ADVERSARIAL, STUDENT_MIRRORED, TEACHER_MIRRORED}
        ),
        inner="adaad",
    ),
    "dist_adv": Method(
        source="Huang et al. 2022, arXiv 2205.10536, on adversarial images",
        terms=dist_adv_terms,
        needs=frozenset({STUDENT_ADVERSARIAL, TEACHER_ADVERSARIAL}),
        inner="ce",
    ),
    "ard": Method(
        source="doi 10.7544/issn1000-1239.202550339",
        terms=ard_terms,
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN, TEACHER_ADVERSARIAL}),
        inner="kl_clean",
    ),
}


def method_named(name: str, distils: bool) -> Method:
    """Look a method up among those that do (or do not) need a teacher.

    Raises:
        InputError: no such method for this command.
    """
    known = [key for key, method in LOSSES.items() if method.distils == distils]
    if name not in known:
        raise InputError(f"--method {name}: expected one of {', '.join(known)}")
    return LOSSES[name]


def logits_needed(method: str, options: LossOptions) -> frozenset[str]:
    """Fields of `Logits` that the method's terms read under these options."""
    needs = LOSSES[method].needs
    return needs | LOSSES[ANCHORS[options.anchor]].needs if method == "ard" else needs


def total(terms: Terms) -> Tensor:
    """Sum of the terms, a scalar."""
    return torch.stack(list(terms.values())).sum()
