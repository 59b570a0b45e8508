"""What a runtime must offer; only numpy crosses it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.spec import BackendInfo, ModelCard


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The one input of a classifier, as its graph declares it.

    Attributes:
        name: tensor name.
        dtype: `float32`, `float16` or `uint8`.
        channels_last: (B, H, W, C) rather than (B, C, H, W).
        image_shape: (channels, height, width); None where the graph leaves a size open.
        batch_size: the batch size that the graph is bound to; None where it is free.
    """

    name: str
    dtype: str
    channels_last: bool
    image_shape: tuple[int | None, int | None, int | None]
    batch_size: int | None


class Backend(Protocol):
    """An opened artefact. A context manager; `infer` is what gets timed.

    `engine_sha256` is that of what the runtime made of the artefact, where making it again may
    give another one; else None.
    """

    info: BackendInfo
    input: ImageInput
    classes: int | None
    card: ModelCard | None
    engine_sha256: str | None

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """(B, ...) in the dtype and layout of `input` to logits (B, C)."""

    def __enter__(self) -> Backend: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
