"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import ImageInput
from edge_bench.errors import CapabilityError, InputError, first_line
from edge_bench.onnx_file import read_card
from edge_bench.spec import BackendInfo
from edge_bench.store import require_file

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class OrtBackend:
    """One ONNX file in one inference session, under the session options of its card.

    Raises:
        CapabilityError: onnxruntime is not installed.
        InputError: not an ONNX model, or not a classifier with one image input.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise CapabilityError(
                f"--backend ort needs onnxruntime ({first_line(error)}); "
                "install it: pip install 'ardx[edge]'"
            ) from None
        require_file(path, "an ONNX model")
        self.card = read_card(path)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        for key, value in (self.card.session_options if self.card else {}).items():
            options.add_session_config_entry(key, value)
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # onnxruntime's own exceptions share no base class narrower than Exception.
            raise InputError(
                f"{path}: ONNX Runtime {ort.__version__} cannot load it as an ONNX model "
                f"({first_line(error)}); export it again"
            ) from None
        self._path = path
        self.input = image_input(self._session.get_inputs(), path)
        self.classes, self._output = logits_output(self._session.get_outputs(), path)
        self.info = BackendInfo(
            name="ort",
            version=ort.__version__,
            providers=tuple(self._session.get_providers()),
            threads=threads,
        )

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """(B, ...) in the dtype and layout of `input` to logits (B, C)."""
        try:
            (logits,) = self._session.run([self._output], {self.input.name: batch})
        except Exception as error:
            raise InputError(
                f"{self._path}: ONNX Runtime failed on a batch of shape {batch.shape} "
                f"({first_line(error)}); export it with a free batch size"
            ) from None
        return np.asarray(logits)

    def __enter__(self) -> OrtBackend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._session


def image_input(inputs: list[Any], path: Path) -> ImageInput:
    """The one image input among a graph's inputs (name, type, shape in ONNX Runtime's words).

    Raises:
        InputError: more than one input, or one that takes no images.
    """
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise InputError(
            f"{path}: expected a classifier with one image input, came {len(inputs)} inputs "
            f"({names}); export the classifier alone"
        )
    node = inputs[0]
    if len(node.shape) != 4 or node.type not in DTYPES:
        raise InputError(
            f"{path}: expected an image input (B, C, H, W) or (B, H, W, C) of float32, float16 "
            f"or uint8, came {node.type} of shape {node.shape}; export the classifier alone"
        )
    sizes = [size if isinstance(size, int) and size > 0 else None for size in node.shape]
    channels_last = sizes[3] in (1, 3) and sizes[1] not in (1, 3)
    if channels_last:
        image_shape = (sizes[3], sizes[1], sizes[2])
    else:
        image_shape = (sizes[1], sizes[2], sizes[3])
    return ImageInput(
        name=node.name,
        dtype=DTYPES[node.type],
        channels_last=channels_last,
        image_shape=image_shape,
        batch_size=sizes[0],
    )


def logits_output(outputs: list[Any], path: Path) -> tuple[int | None, str]:
    """(classes, name) of the one output of logits; None where the graph leaves classes open.

    Raises:
        InputError: not exactly one output of two dimensions.
    """
    candidates = [node for node in outputs if len(node.shape) == 2]
    if len(candidates) == 1:
        classes = candidates[0].shape[1]
        return (classes if isinstance(classes, int) else None), candidates[0].name
    shapes = ", ".join(f"{o.name} {o.shape}" for o in outputs)
    raise InputError(
        f"{path}: expected one output of logits (B, classes), came {shapes}; export the classifier "
        "with its logits alone"
    )
