"""Walk pictures from their files to logits, one after the other, and time each stage."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import Backend, ImageInput
from edge_bench.core.classes import ClassNames
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.pictures.answers import Answers
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.pictures.walked import CARD, Walked
from edge_bench.core.progress import ProgressCallback
from edge_bench.core.series import encode_array
from edge_bench.core.spec import Artifact
from edge_bench.files.pictures.crafted import CraftedPictures, read_crafted
from edge_bench.files.pictures.decode import MODES, content_of, opened, upright_size
from edge_bench.files.pictures.tree import labels_of, open_tree, require_as_many
from edge_bench.files.store import public_path
from edge_bench.options.bench import BenchOptions
from edge_bench.options.pictures import PictureOptions
from edge_bench.pictures.pipelines import Step, Way, Wish, open_way
from edge_bench.robustness.inference import logits_of_prepared, prepare
from edge_bench.robustness.replay import RECORD, records_of
from edge_bench.statistics.metrics import answers_of

PHASE = "pictures"
"""Of the telemetry: the product's way, end to end."""
TOLD = 100
"""Pictures between two words of progress."""


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What is walked, and how; nothing is decoded yet.

    Attributes:
        paths: of the pictures, class by class.
        labels: (N,) class numbers.
        ways: the product's; and the card's, None where it leads nowhere.
        shape: (channels, height, width) that the model reads; None where it leaves one open.
        crafted: the record of an attack that made the pictures.
    """

    asked: PictureOptions
    paths: list[Path]
    labels: NDArray[np.int64]
    class_names: ClassNames
    preprocessing: Preprocessing | None
    product: Way
    card: Way | None
    shape: tuple[int | None, ...]
    crafted: CraftedPictures | None


def open_walk(asked: PictureOptions, backend: Backend, artifact: Artifact) -> Walk:
    """Find the pictures and the way, and see that both fit the model.

    Raises:
        InputError: no such folder, classes that are not the model's, or no such pipeline.
        CapabilityError: what the pipeline needs is not here.
    """
    where, card = f"--pictures {asked.folder}", artifact.card
    if (backend.input.batch_size or 1) != 1:
        raise InputError(
            f"{where}: the model takes batches of {backend.input.batch_size} alone, but pictures "
            "come one by one; export it with a free batch size"
        )
    shape = card.input_shape if card else backend.input.image_shape
    if shape[0] not in MODES:
        raise InputError(
            f"{where}: the model reads {shape[0] or 'any number of'} channels, but pictures have "
            "1 or 3; give --sets instead"
        )
    tree = open_tree(asked.folder)
    names = tree.class_names
    if card:
        labels, known = labels_of(names, card, where), card.class_names
    else:
        labels, known = list(range(len(names))), names
        if backend.classes is not None:
            require_as_many(names, backend.classes, where)
    if known is None:
        known = tuple(name for _, name in sorted(zip(labels, names, strict=True)))
    paths = [tree.pictures(name) for name in tree.names]
    every = [path for each in paths for path in each]
    how = card.preprocessing if card else None
    wish = Wish(preprocessing=how, channels=shape[0])
    # Without Pillow there is no way of the card's to compare with, so it is asked for in any case.
    own = open_way(CARD, wish)
    leads = how is not None or _fits(every[0], shape)
    return Walk(
        asked=asked,
        paths=every,
        labels=np.repeat(np.asarray(labels, dtype=np.int64), [len(each) for each in paths]),
        class_names=known,
        preprocessing=how,
        product=own if asked.pipeline == CARD else open_way(asked.pipeline, wish),
        card=own if leads or asked.pipeline == CARD else None,
        shape=shape,
        crafted=read_crafted(asked.folder, every),
    )


def walked(
    walk: Walk,
    backend: Backend,
    options: BenchOptions,
    timed: AbstractContextManager[None],
    report_progress: ProgressCallback,
) -> Walked:
    """The answers on the card's way and on the product's, and the times of the latter.

    The context `timed` is around the product's way alone.

    Raises:
        InputError: a file that is no picture, or an image that the model does not read.
    """
    digest = _digest(walk.paths, walk.asked.folder)
    card_answers = None
    if walk.card is not None and walk.asked.pipeline != CARD:
        on_card = _stages(walk, walk.card, backend, options)
        card_answers = _answers(walk, on_card, report_progress)[0]
    stages = _stages(walk, walk.product, backend, options)
    for index in range(options.warmup_runs):
        _one(stages, walk.paths[index % len(walk.paths)])
    with timed:
        answers, times = _answers(walk, stages, report_progress)
    return Walked(
        folder=public_path(walk.asked.folder),
        files_sha256=digest,
        pipeline=walk.product.name,
        source_sha256=walk.product.source_sha256,
        preprocessing=walk.preprocessing,
        class_names=walk.class_names,
        labels=encode_array(walk.labels),
        answers=answers,
        card_answers=answers if walk.asked.pipeline == CARD else card_answers,
        stages={name: encode_array(times[:, at]) for at, (name, _) in enumerate(stages)},
        versions=(walk.card.versions if walk.card else {}) | walk.product.versions,
        attack=walk.crafted.attack if walk.crafted else None,
        attacked_sha256=walk.crafted.source_sha256 if walk.crafted else None,
    )


def _digest(paths: list[Path], root: Path) -> str:
    """Of the files' names and contents, which afterwards are in the system's cache."""
    digest = hashlib.sha256()
    for path in paths:
        name = os.fsencode(path.relative_to(root).as_posix())
        digest.update(hashlib.sha256(name).digest() + hashlib.sha256(content_of(path)).digest())
    return digest.hexdigest()


def _answers(
    walk: Walk, stages: list[tuple[str, Step]], report_progress: ProgressCallback
) -> tuple[Answers, NDArray[np.int64]]:
    """The answers to all pictures, and (N, stages) times in ns."""
    count = len(walk.paths)
    told = np.empty(count, dtype=RECORD)
    times = np.empty((count, len(stages)), dtype=np.int64)
    for index, path in enumerate(walk.paths):
        logits, times[index] = _one(stages, path)
        told[index] = records_of(logits)[0]
        if (index + 1) % TOLD == 0:
            report_progress(index + 1, count, "pictures")
    return answers_of(told["predicted"], told["confidence"]), times


def _one(stages: list[tuple[str, Step]], path: Path) -> tuple[Any, list[int]]:
    """What the last stage gives of a file, and the time of each in ns."""
    value: Any = None
    times = []
    for _, step in stages:
        began = perf_counter_ns()
        value = step(value, path)
        times.append(perf_counter_ns() - began)
    return value, times


def _stages(
    walk: Walk, way: Way, backend: Backend, options: BenchOptions
) -> list[tuple[str, Step]]:
    classes = len(walk.class_names)

    def convert(image: Any, path: Path) -> NDArray[Any]:
        return as_input(image, backend.input, walk.shape, options, f"{path}: --pipeline {way.name}")

    def infer(batch: NDArray[Any], path: Path) -> NDArray[np.float32]:
        return logits_of_prepared(backend, batch, classes, str(path))

    return [*way.steps, ("convert", convert), ("inference", infer)]


def as_input(
    image: Any,
    image_input: ImageInput,
    shape: tuple[int | None, ...],
    options: BenchOptions,
    where: str,
) -> NDArray[Any]:
    """(1, ...) as the graph declares it, of an image of a pipeline.

    That is either (H, W, C) levels, (H, W) of one channel, as uint8, or what the graph itself
    takes, with the batch's dimension or without it.

    Raises:
        InputError: neither.
    """
    try:
        found = np.asarray(image)
    # What it is, is for a function of the user's to say; numpy hands on what that raises.
    except Exception as error:
        raise InputError(
            f"{where}: expected an image as a numpy array, came {type(image).__name__}, of which "
            f"numpy makes none ({first_line(error)}); return the array alone"
        ) from None
    channels, height, width = shape
    levels = found[..., None] if channels == 1 and found.ndim == 2 else found
    if found.dtype == np.uint8 and _is_of(levels, (height, width, channels)):
        return prepare(levels.transpose(2, 0, 1)[None], image_input, options)
    own = (height, width, channels) if image_input.channels_last else (channels, height, width)
    batch = found if found.ndim == 4 else found[None]
    if found.dtype == image_input.dtype and len(batch) == 1 and _is_of(batch[0], own):
        return np.ascontiguousarray(batch)
    wanted = "x".join("any" if size is None else str(size) for size in (height, width, channels))
    raise InputError(
        f"{where}: expected {wanted} (height, width, channels) of uint8, or {own} of "
        f"{image_input.dtype} as the model reads them, came {found.shape} of {found.dtype}; resize "
        "it to that, or adopt the model with --image-size, which its card then says"
    )


def _is_of(levels: NDArray[Any], wanted: tuple[int | None, ...]) -> bool:
    return len(levels.shape) == len(wanted) and all(
        size is None or size == came for size, came in zip(wanted, levels.shape, strict=True)
    )


def _fits(path: Path, shape: tuple[int | None, ...]) -> bool:
    """Has the picture the model's size, so that it needs no resize?"""
    with opened(path) as picture:
        width, height = upright_size(picture)
    return shape[1] in (None, height) and shape[2] in (None, width)
