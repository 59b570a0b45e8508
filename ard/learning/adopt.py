"""A trained network of anyone's becomes a file of ours: with its card, judged on their data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ard.data.datasets import matched
from ard.data.splits import Dataset, Split, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.architectures import Classifier, channel_statistics
from ard.models.checkpoints import AS_IT_IS, Reading, Tell, say_nothing
from ard.models.imported import source_sha256
from ard.models.pretrained import described_normalisation, load_pretrained
from ard.models.sizes import check_fits
from ard.models.weight_files import card_inside, save_model
from edge_bench.core.classes import require_same
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.store import refuse_existing_file, sha256_file

ABOVE_CHANCE = 0.1
"""Share of what lies above chance that a trained network keeps at the very least."""
TRIED_ON = 500
"""Images on which other normalisations are tried, where a network is doubted."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """Weights that were adopted, and what they keep of the data's test images.

    Attributes:
        clean_accuracy: on all `images` test images, a fraction.
        doubt: why they are hardly a network trained on such data, and what helps; or None.
    """

    weights: Path
    sha256: str
    card: ModelCard
    clean_accuracy: float
    images: int
    doubt: str | None


def adopt(
    path: Path,
    architecture: str,
    dataset: Dataset,
    out: Path,
    *,
    reading: Reading = AS_IT_IS,
    force: bool = False,
    torch_device: str = "cpu",
    tell: Tell = say_nothing,
) -> Adopted:
    """Read a file of weights in any shape, judge it on test images, and write it with a card.

    Example:
        adopt(Path("mine.pt"), "mymodel:build", digits, Path("model.safetensors"))

    Raises:
        InputError: weights of another architecture or of other classes; images that the network
            does not take; an `out` of another suffix, or one that exists, without `force`.
    """
    if kind_of(out) is not Kind.WEIGHTS:
        raise InputError(
            f"--out {out}: expected a file name that ends in .safetensors, by which weights of "
            f"ardx are known; give {out.with_suffix('.safetensors')}"
        )
    refuse_existing_file(out, force)
    check_fits(architecture, dataset.image_shape, option="--arch", trains=False)
    model = load_pretrained(
        path,
        architecture,
        dataset.image_shape,
        dataset.classes,
        new_head=False,
        reading=reading,
        tell=tell,
    ).to(torch_device)
    card, dataset = _card(path, architecture, dataset)
    accuracy = _accuracy(model, dataset.test, torch_device)
    found: dict[str, Any] = {
        "adopted": {"clean_accuracy": accuracy, "images": len(dataset.test)},
        "source_sha256": source_sha256(architecture),
    }
    card = replace(card, recipe=card.recipe | found)
    doubt = _doubt(model, architecture, dataset, accuracy, torch_device, reading)
    save_model(out, model.cpu(), card, force)
    return Adopted(
        weights=out,
        sha256=sha256_file(out),
        card=card,
        clean_accuracy=accuracy,
        images=len(dataset.test),
        doubt=doubt,
    )


def _card(path: Path, architecture: str, dataset: Dataset) -> tuple[ModelCard, Dataset]:
    """The card of the weights, and the data in the order of its classes."""
    card = ModelCard(
        architecture=architecture,
        dataset=dataset.name,
        classes=dataset.classes,
        class_names=dataset.class_names,
        input_shape=dataset.image_shape,
        preprocessing=dataset.preprocessing,
        parent_sha256=sha256_file(path),
    )
    before = card_inside(path)
    if before is None:
        return card, dataset
    # One of ours, whose source changed: what it was trained by is still so.
    require_same(before.class_names, dataset.class_names, dataset.name, str(path))
    card = replace(card, class_names=before.class_names, recipe=before.recipe)
    return card, matched(path, card, dataset)


def _accuracy(model: Classifier, images: Split, torch_device: str) -> float:
    return float(evaluate_attack(model, images, None, torch_device=torch_device).mean())


def _doubt(
    model: Classifier,
    architecture: str,
    dataset: Dataset,
    accuracy: float,
    torch_device: str,
    reading: Reading,
) -> str | None:
    """What speaks against the weights; another normalisation that mends it is found by trying."""
    chance = 1 / dataset.classes
    if accuracy >= chance + ABOVE_CHANCE * (1 - chance):
        return None
    some = take_limit(dataset.test, min(TRIED_ON, len(dataset.test)))
    # Where the file says how images are normalised, nothing else can be asked for.
    usual = [] if model.normalised_by_file else _usual(architecture, dataset)
    tried = {
        (tuple(mean.tolist()), tuple(std.tolist())): _under(model, mean, std, some, torch_device)
        for mean, std in usual
    }
    (mean, std), best = max(tried.items(), key=lambda pair: pair[1], default=(((), ()), 0.0))
    if best >= chance + 2 * ABOVE_CHANCE * (1 - chance):
        told = f"{reading.options}mean {_text(mean)} {reading.options}std {_text(std)}"
        remedy = f"with {told} it is right on {100 * best:.1f} % of {len(some)} of them"
    else:
        of_training = "" if model.normalised_by_file else "the normalisation of its training, "
        remedy = (
            f"is it {of_training}the order of the classes (that of the folders' names here), the "
            "architecture, or a file of other data?"
        )
    return (
        f"right on {100 * accuracy:.1f} % of {len(dataset.test)} test images of {dataset.name}, "
        f"and chance is {100 * chance:.1f} %; {remedy}"
    )


def _usual(architecture: str, dataset: Dataset) -> list[tuple[Tensor, Tensor]]:
    """Normalisations that people train with: none, of the data, to [-1, 1], of ImageNet."""
    channels = dataset.image_shape[0]
    one = torch.ones(channels)
    found = [(0 * one, one), (one / 2, one / 2)]
    if not dataset.train.streams:
        found.append(channel_statistics(dataset.train.images))
    described = described_normalisation(architecture, channels)
    found += [described] if described else []
    if channels == len(IMAGENET[0]):
        found.append((torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])))
    return found


def _under(model: Classifier, mean: Tensor, std: Tensor, images: Split, torch_device: str) -> float:
    """Accuracy under another normalisation; the model's own is as before afterwards."""
    layer = model.normalise
    own = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.load_state_dict({"mean": mean.reshape(1, -1, 1, 1), "std": std.reshape(1, -1, 1, 1)})
    try:
        return _accuracy(model, images, torch_device)
    finally:
        layer.load_state_dict(own)


def _text(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
