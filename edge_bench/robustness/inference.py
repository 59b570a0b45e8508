"""Images in, checked logits out: what replay, attacks and validation ask of an opened artefact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import Backend, ImageInput
from edge_bench.core.errors import InputError
from edge_bench.files.sets import AdversarialSet
from edge_bench.options.bench import BenchOptions


def logits_of(
    backend: Backend,
    images: NDArray[Any],
    classes: int,
    options: BenchOptions,
    what: str,
) -> NDArray[np.float32]:
    """(B, classes) logits of images (B, C, H, W); `what` names one of them.

    A graph that is bound to a batch size gets them in parts, the last one filled up.

    Raises:
        InputError: NaN or infinite logits, or logits of the wrong shape.
    """
    return logits_of_prepared(backend, prepare(images, backend.input, options), classes, what)


def logits_of_prepared(
    backend: Backend, batch: NDArray[Any], classes: int, what: str
) -> NDArray[np.float32]:
    """As `logits_of`, of images as `prepare` gives them."""
    count, bound = len(batch), backend.input.batch_size or len(batch)
    if missing := -count % bound:
        batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
    parts = [backend.infer(batch[begin : begin + bound]) for begin in range(0, count, bound)]
    logits = parts[0][:count] if len(parts) == 1 else np.concatenate(parts)[:count]
    if logits.dtype.kind != "f":
        raise InputError(
            f"the model's output: expected logits in floats, came {logits.dtype.name}; export the "
            "classifier with its logits"
        )
    if logits.shape[2:] and set(logits.shape[2:]) == {1}:
        logits = logits.reshape(logits.shape[:2])  # of convolutions alone: (B, C, 1, 1)
    if logits.shape != (count, classes):
        raise InputError(
            f"the model's output: expected logits ({count}, {classes}), came {logits.shape}; "
            "craft a set from the dataset of that model"
        )
    if not np.isfinite(logits).all():
        raise InputError(
            f"the model's logits hold NaN or infinity for {what}; its accuracy would be "
            "meaningless, so export or quantise it again"
        )
    return logits


def prepare(
    images: NDArray[Any],
    image_input: ImageInput,
    options: BenchOptions,
    out: NDArray[np.float32] | None = None,
) -> NDArray[Any]:
    """(B, C, H, W) uint8 levels or float32 in [0, 1] to what the graph's input declares.

    Memory of the images' shape may be lent as `out`, and the result may lie in it: new memory for
    every batch costs more than the work.
    """
    if image_input.dtype == "uint8":
        if images.dtype != np.uint8:
            raise InputError(
                "the model reads uint8 images, but the set is not on the 8-bit grid; craft it "
                "without --off-grid"
            )
        batch: NDArray[Any] = images
    else:
        batch = _fractions(images, out) if images.dtype == np.uint8 else images
        if options.mean is not None and options.std is not None:
            mean = np.asarray(options.mean, dtype=np.float32).reshape(1, -1, 1, 1)
            std = np.asarray(options.std, dtype=np.float32).reshape(1, -1, 1, 1)
            batch = (batch - mean) / std
        batch = batch.astype(image_input.dtype, copy=False)
    return _channels_last(batch) if image_input.channels_last else np.ascontiguousarray(batch)


def _channels_last(planes: NDArray[Any]) -> NDArray[Any]:
    """(B, C, H, W) to (B, H, W, C), plane by plane: numpy's own copy takes three times as long."""
    count, channels, height, width = planes.shape
    pixels = np.empty((count, height, width, channels), dtype=planes.dtype)
    for channel in range(channels):
        pixels[..., channel] = planes[:, channel]
    return pixels


def _fractions(levels: NDArray[np.uint8], out: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Levels as float32 in [0, 1], in one pass: a second array costs more than the division."""
    if out is None:
        out = np.empty(levels.shape, dtype=np.float32)
    return np.divide(levels, np.float32(255), out=out, dtype=np.float32)


def stored_logits(backend: Backend, images: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    """(N, classes) logits of a fingerprint's images (N, C, H, W), by the graph as it is."""
    return logits_of(backend, images, classes, BenchOptions(), "a fingerprint")


def batch_to_time(
    backend: Backend, sets: list[AdversarialSet], batch_size: int, options: BenchOptions
) -> NDArray[Any]:
    """A batch as the graph declares it, of real images where there are any, else of noise.

    Raises:
        InputError: neither sets nor a fixed image size.
    """
    size = backend.input.batch_size or batch_size
    if sets:
        images = np.resize(sets[0].clean[:size], (size, *sets[0].manifest.image_shape))
    else:
        if any(s is None for s in backend.input.image_shape):
            raise InputError(
                "the model leaves its image size open, so without --sets there is nothing to "
                "time; give --sets"
            )
        shape = [s for s in backend.input.image_shape if s is not None]
        images = np.random.default_rng(0).integers(0, 256, (size, *shape), dtype=np.uint8)
    return prepare(images, backend.input, options)
