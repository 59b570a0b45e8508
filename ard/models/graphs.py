"""ONNX files of anyone: what they say of themselves, and their graphs as networks."""

from __future__ import annotations

import ast
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from deploy.reading.ending import last_softmax, without_softmax
from deploy.reading.network import Ends, GraphNetwork, read_network
from edge_bench.backends import open_backend
from edge_bench.backends.base import Backend
from edge_bench.backends.ort import image_input, logits_output
from edge_bench.core.classes import ClassNames
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.onnx_file import read_card, read_onnx
from edge_bench.options.bench import BenchOptions

NAME_KEYS = ("names", "class_names", "classes", "labels", "id2label")
"""Metadata under which exporters keep the names of the classes."""
UNNAMED = "unnamed"
"""Dataset of a card where nobody says any."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a person says of an ONNX file that it does not say itself.

    Attributes:
        dataset: that it was trained on.
        image_shape: (channels, height, width), for sizes that its graph leaves open.
        mean, std: of each channel of images in [0, 1], where normalisation is outside of the graph.
    """

    dataset: str | None = None
    image_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def options(self) -> BenchOptions:
        """The same as a replay takes it."""
        return BenchOptions(mean=self.mean, std=self.std)

    def told(self) -> str:
        """The normalisation in words; empty without one."""
        if self.mean is None or self.std is None:
            return ""
        return f", mean {_numbers(self.mean)}, std {_numbers(self.std)}"


NOTHING_SAID = Said()


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def is_foreign(path: Path) -> bool:
    """Is this an ONNX file that ardx did not write, so that it has no card?"""
    return read_card(path) is None


def output_of(path: Path, output: str | None) -> str:
    """The output that gives the logits: the one that was named, or the one that can."""
    return logits_output(read_onnx(path).outputs, path, output)[1]


@contextmanager
def open_logits(
    path: Path, backend: str, threads: int | None, output: str | None
) -> Iterator[tuple[Backend, bool]]:
    """Open a foreign file in a runtime so that it gives logits; whether a softmax was taken off.

    The runtime gets a copy without the last softmax, where there is one.
    """
    # The runtime's own refusals, of a file that is no classifier, come first.
    with open_backend(backend, path, threads, output=output) as opened:
        name = output_of(path, output)
        model = onnx.load(path, load_external_data=False)
        if last_softmax(model.graph, name) is None:
            yield opened, False
            return
    model = onnx.load(path)
    without_softmax(model.graph, name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        onnx.save(model, copy)
        with open_backend(backend, copy, threads, output=output) as opened:
            yield opened, True


def network_of(path: Path, output: str | None = None, said: Said = NOTHING_SAID) -> GraphNetwork:
    """The graph of an ONNX file as a network of images in [0, 1].

    Raises:
        UnreadError: operators that are not covered, each by its name.
    """
    outside = read_onnx(path)
    ends = Ends(
        input=image_input(outside.inputs, path),
        output=output_of(path, output),
        image_shape=said.image_shape,
        mean=said.mean,
        std=said.std,
    )
    return read_network(path, ends)


def foreign_card(path: Path, opened: Backend, said: Said, sha256: str) -> ModelCard:
    """A card for a file without one: from its graph, its metadata, and what a person says.

    Raises:
        InputError: a graph that leaves its image size open, and nobody says it; a normalisation
            that is not of its channels, or of a graph that reads levels.
    """
    found = opened.input.image_shape
    shape = tuple(own or other for own, other in zip(found, said.image_shape or found, strict=True))
    if not all(shape):
        raise InputError(
            f"{path}: its graph leaves the size of its images open; give --dataset, and "
            "--image-size where that is a folder of pictures"
        )
    channels, height, width = (int(size or 0) for size in shape)
    _require_normalisation(path, opened, said, channels)
    classes = opened.classes or _classes(opened, (channels, height, width))
    recipe: dict[str, Any] = {"onnx_sha256": sha256}
    if said.mean is not None and said.std is not None:
        recipe |= {"mean": list(said.mean), "std": list(said.std)}
    return ModelCard(
        architecture=read_onnx(path).metadata.get("architecture", path.stem),
        dataset=said.dataset or UNNAMED,
        classes=classes,
        class_names=names_of(read_onnx(path).metadata, classes),
        input_shape=(channels, height, width),
        recipe=recipe,
        ardx_version=None,
    )


def _require_normalisation(path: Path, opened: Backend, said: Said, channels: int) -> None:
    if said.mean is None:
        return
    if opened.input.dtype == "uint8":
        raise InputError(
            f"--mean: {path} reads uint8 levels and normalises them itself; leave --mean and --std "
            "out"
        )
    if len(said.mean) not in (1, channels):
        raise InputError(
            f"--mean: expected one value or {channels}, one for each channel of {path}, came "
            f"{len(said.mean)}"
        )


def _classes(opened: Backend, shape: tuple[int, int, int]) -> int:
    """The number of classes, of a graph that does not state it."""
    channels, height, width = shape
    sizes = (height, width, channels) if opened.input.channels_last else shape
    blank = np.zeros((opened.input.batch_size or 1, *sizes), dtype=opened.input.dtype)
    return int(opened.infer(blank).shape[1])


def names_of(metadata: dict[str, str], classes: int) -> ClassNames | None:
    """The names of the classes in a file's metadata; None where none of that number are there.

    Exporters keep them as a list or as a mapping of numbers, in JSON or as Python writes it, or
    with commas or a line each.
    """
    for key in NAME_KEYS:
        names = _listed(metadata.get(key, ""))
        if len(names) == classes and len(set(names)) == classes:
            return tuple(names)
    return None


def _listed(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            # Literals alone: nothing in it is run.
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = text.replace("\n", ",").split(",")
    if isinstance(found, dict):
        try:
            found = [found[key] for key in sorted(found, key=int)]
        except (TypeError, ValueError):
            return []
    if not isinstance(found, list | tuple):
        return []
    return [str(name).strip() for name in found if str(name).strip()]
