"""The published objectives by name. To add one: a file here with a function `terms`, and an entry.

Nothing here imports torch, so that help and messages can name every method. All reductions are
means over the batch and sums over classes, whatever the authors' code averages over, so that one
learning rate suits all. A constant that is left at None takes the value published for CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_bench.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ard.methods.parts.base import Balance, Logits, LossOptions, Terms
    from ard.methods.parts.inner import Attacked, Climbed

STUDENT_CLEAN, STUDENT_ADVERSARIAL = "student_clean", "student_adversarial"
TEACHER_CLEAN, TEACHER_ADVERSARIAL = "teacher_clean", "teacher_adversarial"
STUDENT_MIRRORED, TEACHER_MIRRORED = "student_mirrored", "teacher_mirrored"
SECOND_TEACHER_CLEAN = "second_teacher_clean"

ANCHORS = {"rslad": "rslad", "ce": "pgd_at", "adaad": "adaad", "igdm": "igdm"}
"""The method whose objective each anchor of ARD is, with its constants."""

SURER = 0.5
"""The temperature of the teacher that ARD has on its usual anchor: it is surer than by itself."""


@dataclass(frozen=True, kw_only=True)
class Inner:
    """An objective of the inner maximisation; `inner.climb_NAME` says what is ascended.

    Attributes:
        text: what it is, for people.
        needs_teacher: asks the teacher in some way.
        needs_teacher_clean: reads the teacher's logits of the clean images.
    """

    text: str
    needs_teacher: bool = False
    needs_teacher_clean: bool = False


INNER: dict[str, Inner] = {
    "ce": Inner(text="cross-entropy with the labels"),
    "kl_clean": Inner(
        text="KL to the teacher's prediction on the clean image (RSLAD)",
        needs_teacher=True,
        needs_teacher_clean=True,
    ),
    "kl_self": Inner(text="KL to the model's own prediction on the clean image (TRADES)"),
    "adaad": Inner(
        text="KL to the teacher's prediction on the same adversarial image (AdaAD)",
        needs_teacher=True,
    ),
    "adaad_linear": Inner(
        text="nearly the same, the teacher being linear around the clean image", needs_teacher=True
    ),
    "ranking": Inner(
        text="disagreement with the teacher's class ranking of the clean image",
        needs_teacher=True,
        needs_teacher_clean=True,
    ),
}


def climbed(name: str, attacked: Attacked) -> Climbed:
    """The model and the objective that the inner maximisation `name` ascends."""
    build = getattr(import_module("ard.methods.parts.inner"), f"climb_{name}")
    found: Climbed = build(attacked)
    return found


@dataclass(frozen=True, kw_only=True)
class Method:
    """A published objective and what it needs from the loop.

    Attributes:
        file: the file in this folder that holds its `terms`, and its `balance` if it has one.
        source: the paper.
        needs: which fields of `Logits` the terms read; see `logits_needed`.
        inner: objective that its inner maximisation ascends, a key of INNER; None for
            training without attack.
        reads: which constants of `LossOptions` its terms read; see `constants_read`.
        balances: reweighs its terms by what it remembers of earlier steps.
    """

    file: str
    source: str
    needs: frozenset[str]
    inner: str | None
    reads: frozenset[str] = frozenset()
    balances: bool = False

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.needs & {TEACHER_CLEAN, TEACHER_ADVERSARIAL})

    @property
    def needs_second_teacher(self) -> bool:
        """Whether a teacher trained on clean images is needed too."""
        return SECOND_TEACHER_CLEAN in self.needs

    def terms(self, logits: Logits, labels: Tensor, options: LossOptions) -> Terms:
        """Weighted terms of the loss by name; their sum is minimised."""
        found: Terms = self._module().terms(logits, labels, options)
        return found

    @property
    def balance(self) -> Balance | None:
        """What reweighs the terms; None for constant weights."""
        found: Balance | None = self._module().balance if self.balances else None
        return found

    def _module(self) -> Any:
        return import_module(f"ard.methods.{self.file}")


METHODS: dict[str, Method] = {
    "natural": Method(
        file="natural",
        source="no defence",
        needs=frozenset({STUDENT_CLEAN}),
        inner=None,
    ),
    "pgd_at": Method(
        file="pgd_at",
        source="Madry et al. 2018, arXiv 1706.06083",
        needs=frozenset({STUDENT_ADVERSARIAL}),
        inner="ce",
    ),
    "trades": Method(
        file="trades",
        source="Zhang et al. 2019, arXiv 1901.08573",
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL}),
        inner="kl_self",
        reads=frozenset({"beta"}),
    ),
    "mart": Method(
        file="mart",
        source="Wang et al. 2020, ICLR",
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL}),
        inner="ce",
        reads=frozenset({"beta"}),
    ),
    "goldblum_ard": Method(
        file="goldblum_ard",
        source="Goldblum et al. 2020, arXiv 1905.09747",
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN}),
        inner="ce",
        reads=frozenset({"alpha", "temperature"}),
    ),
    "iad": Method(
        file="iad",
        source="Zhu et al. 2022, arXiv 2106.04928",
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN, TEACHER_ADVERSARIAL}),
        inner="ce",
        reads=frozenset({"beta", "temperature"}),
    ),
    "rslad": Method(
        file="rslad",
        source="Zi et al. 2021, arXiv 2108.07969",
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN}),
        inner="kl_clean",
        reads=frozenset({"alpha"}),
    ),
    "adaad": Method(
        file="adaad",
        source="Huang et al. 2023, CVPR",
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN, TEACHER_ADVERSARIAL}),
        inner="adaad",
        reads=frozenset({"alpha"}),
    ),
    "mtard": Method(
        file="mtard",
        source="Zhao et al. 2022, ECCV",
        needs=frozenset(
            {STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_ADVERSARIAL, SECOND_TEACHER_CLEAN}
        ),
        inner="ce",
        balances=True,
    ),
    "igdm": Method(
        file="igdm",
        source="Lee et al. 2025, arXiv 2312.03286",
        needs=frozenset(
            {STUDENT_ADVERSARIAL, TEACHER_ADVERSARIAL, STUDENT_MIRRORED, TEACHER_MIRRORED}
        ),
        inner="adaad",
        reads=frozenset({"alpha"}),
    ),
    "dist_adv": Method(
        file="dist_adv",
        source="Huang et al. 2022, arXiv 2205.10536, on adversarial images",
        needs=frozenset({STUDENT_ADVERSARIAL, TEACHER_ADVERSARIAL}),
        inner="ce",
        reads=frozenset({"alpha", "beta", "gamma", "temperature"}),
    ),
    "ard": Method(
        file="ard",
        source="doi 10.7544/issn1000-1239.202550339",
        needs=frozenset({STUDENT_CLEAN, STUDENT_ADVERSARIAL, TEACHER_CLEAN, TEACHER_ADVERSARIAL}),
        inner="adaad",
        reads=frozenset({"temperature", "anchor", "ranking"}),
    ),
}


def methods_that(distil: bool) -> list[str]:
    """Names of the methods that do, or do not, need a teacher."""
    return [name for name, method in METHODS.items() if method.distils == distil]


def method_named(name: str, distils: bool) -> Method:
    """Look a method up among those that do (or do not) need a teacher.

    Raises:
        InputError: no such method for this command.
    """
    known = methods_that(distils)
    if name not in known:
        raise InputError(f"--method {name}: expected one of {', '.join(known)}")
    return METHODS[name]


def own_attack(method: str, anchor: str) -> str | None:
    """What a method's attack in training ascends, a key of INNER; ARD's is that of its anchor."""
    return METHODS[ANCHORS[anchor] if method == "ard" else method].inner


def logits_needed(method: str, options: LossOptions) -> frozenset[str]:
    """Fields of `Logits` that the method's terms read under these options."""
    needs = METHODS[method].needs
    return needs | METHODS[ANCHORS[options.anchor]].needs if method == "ard" else needs


def constants_read(method: str, anchor: str, inner: str | None) -> frozenset[str]:
    """Fields of `LossOptions` that make a difference to a training.

    Args:
        anchor: of ARD, a key of ANCHORS.
        inner: what the attack ascends where it is not the method's own.
    """
    chosen = METHODS[method]
    reads = chosen.reads
    if method == "ard":
        reads |= METHODS[ANCHORS[anchor]].reads
        if anchor == "ce":
            reads -= {"temperature"}
    if inner == "ranking":
        reads |= {"ranking"}
    return reads | {"teacher_temperature"} if chosen.distils else reads
