"""A teacher: a file of ours or a published checkpoint, which fits the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from pathlib import Path

import torch
from torch import Tensor, nn

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.data.datasets import matched
from ard.data.splits import Dataset, Split, as_float, take_limit, training_and_validation
from ard.evaluation.accuracy import evaluate_attack
from ard.methods.registry import SURER
from ard.models.checkpoints import AS_IT_IS, Reading, Tell, say_nothing
from ard.models.published.checkpoints import teacher_for
from ard.models.sizes import check_fits
from ard.models.weight_files import load_known, load_model, load_published
from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.store import sha256_file

ATTACKED, ATTACKED_A_MINUTE = 200, 5
"""Images that a teacher is attacked on: enough to tell 7 % apart, and seconds for most networks."""
BATCH = 100
OVERCONFIDENT = 0.25
"""By how much a teacher may be surer of adversarial images than it is right."""
UNSURE = 0.85
"""Entropy of what a teacher says of adversarial images, from which on it says little: of the same
network, at 0.88 students were less robust than at 0.68 (docs/results/teachers.md)."""
CLAIM_MARGIN = 0.1
"""What a measured accuracy may lie below a stated one: a thousand images tell 5 % apart."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher that fits the dataset, and the file it came from; a published one has no card."""

    model: nn.Module
    sha256: str
    claimed: float | None = None
    """Clean accuracy that its publisher or its card states; None where nobody does."""
    is_ours: bool = True
    """Written by ardx, with its normalisation inside."""
    card: ModelCard | None = None


class Tempered(nn.Module):
    """A teacher whose logits are divided by a temperature, the attack's own questions included.

    It orders the classes of each image as before, and is surer of them below a temperature of 1.
    """

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes)."""
        logits: Tensor = self.model(images)
        return logits / self.temperature


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a teacher says of held-out training images, clean and adversarial.

    Attributes:
        clean_accuracy: on `images` of them.
        robust_accuracy: after PGD-10 at `epsilon`, on `attacked` of them.
        confidence: mean probability that it gives its own class of these adversarial images.
        entropy: mean entropy of what it says of them, over that of knowing nothing, 0 to 1.
        temperature: by which its logits were divided for all of these, in the attack too.
        own_confidence: `confidence` at a temperature of 1; None where it was not kept.
    """

    clean_accuracy: float
    images: int
    robust_accuracy: float
    attacked: int
    epsilon: float
    confidence: float
    entropy: float
    temperature: float = 1.0
    own_confidence: float | None = None

    def __str__(self) -> str:
        """A line for people."""
        heat = "" if self.temperature == 1 else f" at a temperature of {self.temperature:g}"
        return (
            f"clean accuracy {100 * self.clean_accuracy:.1f} % on {self.images:,} held-out "
            f"training images; after PGD-10 right on {100 * self.robust_accuracy:.1f} % of "
            f"{self.attacked}, sure by {100 * self.confidence:.1f} %, entropy {self.entropy:.2f}"
            f"{heat}"
        )


def attacked_within(minutes: float | None) -> int:
    """How many held-out images a teacher is attacked on, before a run that has so many minutes."""
    return (
        ATTACKED if minutes is None else max(8, min(ATTACKED, round(ATTACKED_A_MINUTE * minutes)))
    )


def measure(
    teacher: Teacher,
    dataset: Dataset,
    torch_device: str,
    epsilon: float,
    attacked: int = ATTACKED,
    temperature: float = 1.0,
) -> Measured:
    """Ask a teacher for the classes of held-out images, before anything is trained on it.

    Args:
        temperature: at which a student is to hear it; see `Tempered`.

    Raises:
        InputError: the model gives NaN or infinite logits.
    """
    if teacher.card is not None:
        dataset = matched(Path("teacher"), teacher.card, dataset)
    held_out = training_and_validation(dataset)[1]
    model = teacher.model.to(torch_device).eval()
    right = evaluate_attack(model, held_out, None, torch_device=torch_device)
    some = take_limit(held_out, attacked).loaded()
    heard = model if temperature == 1 else Tempered(model, temperature)
    logits = _said_under_attack(heard, some, epsilon, torch_device)
    said, own = logits.softmax(dim=1), (temperature * logits).softmax(dim=1)
    entropy = torch.special.entr(said).sum(dim=1) / log(dataset.classes)
    return Measured(
        clean_accuracy=float(right.mean()),
        images=len(held_out),
        robust_accuracy=float((said.argmax(dim=1) == some.labels).double().mean()),
        attacked=len(some),
        epsilon=epsilon,
        confidence=float(said.max(dim=1).values.mean()),
        entropy=float(entropy.mean()),
        temperature=temperature,
        own_confidence=float(own.max(dim=1).values.mean()),
    )


def _said_under_attack(model: nn.Module, split: Split, epsilon: float, torch_device: str) -> Tensor:
    """Logits (N, C), float64, of images after PGD-10; wrong ones are attacked, too."""
    spec = parse_attack("pgd10", epsilon=epsilon)
    said = []
    model = model.to(torch_device).eval()
    for number, begin in enumerate(range(0, len(split), BATCH)):
        part = split.part(begin, begin + BATCH)
        labels = part.labels.to(torch_device)
        found = run_attack(model, as_float(part.images).to(torch_device), labels, spec, number)
        with torch.no_grad():
            said.append(model(found).double().cpu())
    return torch.cat(said)


def doubt_about_confidence(measured: Measured) -> str | None:
    """What to see to where a robust teacher is much surer of adversarial images than it is right,
    or says next to nothing of them.

    Sure teachers, and huge ones above all, were reported to teach less robust students. Here one
    that was made surer by its temperature alone taught more robust ones at a lower clean accuracy,
    and one that was made less sure less robust ones: docs/results/teachers.md. So what a usual
    temperature alone adds is not doubted.
    """
    at = f"loss.teacher_temperature={measured.temperature / 2:g}"
    if measured.entropy > UNSURE:
        return (
            f"the teacher says little of {measured.attacked} adversarial held-out images (entropy "
            f"{measured.entropy:.2f} of 1), from which a student learns little robustness; "
            f"--set {at}, or less, makes it surer"
        )
    sure = measured.confidence
    if measured.temperature >= SURER and measured.own_confidence is not None:
        sure = min(sure, measured.own_confidence)
    if sure - measured.robust_accuracy <= OVERCONFIDENT:
        return None
    other = "one at a higher loss.teacher_temperature"
    if measured.temperature >= 1:
        other = "one of a less certain teacher"
    return (
        f"the teacher is right on {100 * measured.robust_accuracy:.1f} % of {measured.attacked} "
        f"adversarial held-out images, but sure of its word by {100 * measured.confidence:.1f} %; "
        "some teachers like this were found to teach less robust students, so compare a short run "
        f"with {other} before a long one"
    )


def doubt_about(teacher: Teacher, measured: Measured, classes: int) -> str | None:
    """Why a teacher is hardly one to learn from, and what helps; None where it may be.

    Without a claim, an accuracy is low in the lower half of what lies above chance, where robust
    networks of others are published, or in its lowest tenth, where one was trained here.
    """
    chance = 1 / classes
    if teacher.claimed is not None:
        low = teacher.claimed - CLAIM_MARGIN
        than = f"{100 * teacher.claimed:.1f} % are stated for it"
    else:
        low = chance + (0.1 if teacher.is_ours else 0.5) * (1 - chance)
        than = f"chance is {100 * chance:.1f} %"
    if measured.clean_accuracy >= low:
        return None
    remedy = (
        "is it weights of another run or other data?"
        if teacher.is_ours
        else "its normalisation may be missing (--teacher-mean and --teacher-std), or the order of "
        "classes, the architecture (--teacher-arch) or the weights (--teacher-key) be another"
    )
    return (
        f"the teacher is right on {100 * measured.clean_accuracy:.1f} % of {measured.images} "
        f"held-out images, and {than}; a student learns what it says: {remedy}"
    )


def load_teacher(
    path: Path,
    architecture: str | None,
    dataset: Dataset,
    reading: Reading = AS_IT_IS,
    tell: Tell = say_nothing,
) -> Teacher:
    """Load a teacher written by ardx, or a published checkpoint.

    Example:
        teacher = load_teacher(Path("teacher/teacher.safetensors"), None, digits)

    `architecture` is needed where the file is published under a name that `published.checkpoints`
    does not know; it is an architecture, or the name of the known teacher that the file is. `tell`
    is told what was chosen in a file that leaves a choice.

    Raises:
        InputError: unreadable, or of other classes or another image shape.
    """
    model: nn.Module
    known = teacher_for(path, architecture, dataset.name)
    if known is not None:
        model, sha256 = load_known(path, known, reading, tell)
        return Teacher(model=model, sha256=sha256, claimed=known.clean_accuracy, is_ours=False)
    if architecture is not None:
        return _published(path, architecture, dataset, reading, tell)
    if path.suffix in (".pt", ".pth"):
        raise InputError(
            f"{path}: a published checkpoint does not say what it is; give --teacher-arch, an "
            "architecture or a name that `ardx teachers` lists"
        )
    if reading != AS_IT_IS:
        raise InputError(
            "--teacher-mean, --teacher-std and --teacher-key: are of published checkpoints, and "
            f"{path} is read as ours, which holds one network with its normalisation; leave them "
            "out, or give --teacher-arch"
        )
    model, card = load_model(path)
    if card.classes != dataset.classes:
        require_same(dataset.class_names, card.class_names, f"{path}: a teacher", dataset.name)
    if card.classes != dataset.classes or card.input_shape != dataset.image_shape:
        raise InputError(
            f"{path}: a teacher of {card.classes} classes on images {card.input_shape} "
            f"({card.dataset}), but {dataset.name} has {dataset.classes} classes on "
            f"{dataset.image_shape}; give a teacher trained on {dataset.name}"
        )
    matched(path, card, dataset)
    found = card.recipe.get("validation")
    claimed = found.get("clean_accuracy") if isinstance(found, dict) else None
    return Teacher(
        model=model,
        sha256=sha256_file(path),
        claimed=claimed if isinstance(claimed, float) else None,
        card=card,
    )


def _published(
    path: Path, architecture: str, dataset: Dataset, reading: Reading, tell: Tell
) -> Teacher:
    """A checkpoint of somebody else's, of which the architecture alone is known."""
    check_fits(architecture, dataset.image_shape, option="--teacher-arch", trains=False)
    channels, height, width = dataset.image_shape
    model = load_published(
        path,
        architecture,
        channels,
        dataset.classes,
        image_size=(height, width),
        reading=reading,
        tell=tell,
    )
    return Teacher(model=model, sha256=sha256_file(path), is_ours=False)
