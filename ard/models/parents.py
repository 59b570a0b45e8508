"""What an artefact is made from: weights, or an ONNX file in floats of anyone's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ard.models.graphs import (
    NOTHING_SAID,
    Said,
    foreign_card,
    is_foreign,
    network_of,
    open_logits,
)
from ard.models.weight_files import load_model
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.external_data import model_files
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.onnx_file import read_card
from edge_bench.files.store import identity, sha256_file

OUTPUT = "onnx_output"
"""Key of a card's recipe: the output of the parent that gave the logits, where it was named."""

OF_ITS_FILE = {
    OUTPUT,
    "mean",
    "std",
    "fp16_keeps_float32",
    "max_robust_drop",
    "float_layers",
    "robust_drop_decided",
    "robust_drop",
}
"""Keys of a card's recipe that say how its own file was made, so that nothing made of it has them.

The normalisation of a file without a card is inside of the graph that was made of it: what took it
from there would normalise twice.
"""


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A network in floats, in eval mode, with its card, and how its file was read."""

    path: Path
    module: nn.Module
    card: ModelCard
    sha256: str
    said: Said = NOTHING_SAID
    output: str | None = None


def open_parent(path: Path, said: Said = NOTHING_SAID, output: str | None = None) -> Parent:
    """Read weights, or the graph of an ONNX file.

    Raises:
        InputError: neither, a graph with operators that are not covered, or one in integers.
    """
    if kind_of(path) is not Kind.ONNX:
        module, card = load_model(path)
        return Parent(path=path, module=module, card=card, sha256=sha256_file(path))
    sha256 = identity(model_files(path))[0]
    with open_logits(path, "ort", None, output) as (opened, _):
        card = _as_a_source(read_card(path)) or foreign_card(path, opened, said, sha256)
    network = network_of(path, output, replace(said, image_shape=card.input_shape))
    if network.rounds:
        raise InputError(
            f"{path}: expected a graph in floats, came one in integers, which was quantised "
            "already; give the file that it was made from"
        )
    if output is not None:
        card = replace(card, recipe=card.recipe | {OUTPUT: output})
    return Parent(
        path=path,
        module=network,
        card=replace(card, precision="fp32"),
        sha256=sha256,
        said=said,
        output=output,
    )


def _as_a_source(card: ModelCard | None) -> ModelCard | None:
    """The card of a file of ardx, for what is made of that file."""
    if card is None:
        return None
    kept = {key: value for key, value in card.recipe.items() if key not in OF_ITS_FILE}
    return replace(card, recipe=kept)


def parent_of(path: Path, card: ModelCard) -> Parent:
    """The parent of an artefact with that card, read as it was when the artefact was made of it."""
    recipe, output = card.recipe, card.recipe.get(OUTPUT)
    if kind_of(path) is Kind.ONNX and not is_foreign(path):
        # It normalises by itself and has one output, whatever cards of an older ardx inherited.
        return open_parent(path)
    said = Said(
        image_shape=card.input_shape,
        mean=_floats(recipe.get("mean"), path),
        std=_floats(recipe.get("std"), path),
    )
    return open_parent(path, said, None if output is None else str(output))


def _floats(value: Any, path: Path) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, int | float) for each in value):
        raise InputError(f"{path}: expected mean and std of numbers on the card, came {value!r}")
    return tuple(float(each) for each in value)
