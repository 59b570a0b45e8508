"""OpenVINO on the CPU: reads the same ONNX files, INT8 by their QDQ nodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import ImageInput
from edge_bench.backends.ort import image_input, logits_output
from edge_bench.backends.registry import Opening
from edge_bench.backends.signal_stack import kept_signal_stack
from edge_bench.core.errors import CapabilityError, InputError, first_line
from edge_bench.core.spec import BackendInfo
from edge_bench.files.onnx_file import model_card, read_onnx

DEVICE = "CPU"
SETTINGS = {
    # One image as fast as can be, rather than many at once.
    "PERFORMANCE_HINT": "LATENCY",
    # Nothing is rounded that the graph does not round: left alone, OpenVINO computes fp32 graphs
    # in bfloat16 or float16 where the CPU can. INT8 comes from the graph's own QDQ nodes.
    "EXECUTION_MODE_HINT": "ACCURACY",
    "INFERENCE_PRECISION_HINT": "f32",
}
TELEMETRY = "openvino_telemetry"


def require_openvino() -> Any:
    """The module openvino, imported so that it tells nobody.

    Raises:
        CapabilityError: it is missing or broken.
    """
    try:
        with _without_telemetry():
            import openvino
    except Exception as error:
        # A wheel of another system raises OSError or RuntimeError.
        raise CapabilityError(
            f"--backend openvino needs openvino ({first_line(error)}); install it: "
            "pip install 'ardx[openvino]'"
        ) from None
    return openvino


def openvino_here() -> str:
    """The version of OpenVINO in this environment.

    Raises:
        CapabilityError: there is none that works.
    """
    # The rest is a build number and a branch.
    version: str = require_openvino().__version__.partition("-")[0]
    return version


class OpenVinoBackend:
    """One ONNX file, compiled for a single image, and when a batch comes once more for any size.

    A graph that is compiled for one image is what a device that sees one at a time would run, and
    faster than one of free batch size. For larger batches the gain is small, and compiling takes
    up to a second, so other sizes share the free one.

    Raises:
        CapabilityError: openvino is not installed.
        InputError: not an ONNX model, or not a classifier with one image input.
    """

    def __init__(self, path: Path, threads: int | None = None, output: str | None = None) -> None:
        ov = require_openvino()
        graph = read_onnx(path)
        self.card = model_card(graph.metadata, path)
        self.engine_sha256: str | None = None
        self.input: ImageInput = image_input(list(graph.inputs), path)
        self.classes, logits = logits_output(list(graph.outputs), path, output)
        self._output = [tensor.name for tensor in graph.outputs].index(logits)
        self._settings = SETTINGS | ({} if threads is None else {"INFERENCE_NUM_THREADS": threads})
        self._tensor, self._path = ov.Tensor, path
        self._requests: dict[int | None, Any] = {}
        try:
            with kept_signal_stack():
                self._core = ov.Core()
                self._model = self._core.read_model(path)
            compiled = self._request(1).get_compiled_model()
        except Exception as error:
            # pybind11 turns OpenVINO's exceptions into RuntimeError and others.
            raise InputError(
                f"{path}: OpenVINO {openvino_here()} cannot load it ({_reason(error)}); export it "
                "again, or use --backend ort"
            ) from None
        self.info = BackendInfo(
            name="openvino",
            version=openvino_here(),
            providers=tuple(compiled.get_property("EXECUTION_DEVICES")),
            # More threads than the process has cores are not started.
            threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
        )

    def _request(self, size: int) -> Any:
        """The request for a batch of that size, compiled where it is the first of its kind."""
        is_fixed = self.input.batch_size is not None or None in self.input.image_shape
        batch = 1 if size == 1 and not is_fixed else None
        if batch not in self._requests:
            model = self._model.clone()
            if batch is not None:
                shape = model.input(0).partial_shape
                shape[0] = batch
                model.reshape(shape)
            with kept_signal_stack():
                compiled = self._core.compile_model(model, DEVICE, self._settings)
            self._requests[batch] = compiled.create_infer_request()
        return self._requests[batch]

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """(B, ...) in the dtype and layout of `input` to logits (B, C)."""
        try:
            request = self._request(len(batch))
            # By hand: the binding's own dispatch of inputs takes as long as a small network. It
            # shares only memory that may be written, which a set's images are not.
            images = np.require(batch, requirements=("C_CONTIGUOUS", "WRITEABLE"))
            request.set_input_tensor(self._tensor(images, shared_memory=True))
            request.infer()
            # A copy: the next call fills the same memory.
            logits = np.array(request.get_output_tensor(self._output).data, dtype=np.float32)
        except Exception as error:
            raise self._failed(batch, _reason(error)) from None
        if len(logits) != len(batch):
            # A reshape to one image, behind a batch size declared free, drops the others.
            raise self._failed(batch, f"it gave logits of shape {logits.shape}")
        return logits

    def _failed(self, batch: NDArray[Any], why: str) -> InputError:
        return InputError(
            f"{self._path}: OpenVINO failed on a batch of shape {batch.shape} ({why}); export it "
            "with a free batch size"
        )

    def __enter__(self) -> OpenVinoBackend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._requests
        del self._model


def _reason(error: BaseException) -> str:
    """What went wrong: the last line, below those that tell where in OpenVINO's sources."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide the package that reports each import to an analytics service over the network.

    Where it is not installed, openvino uses a stub that does nothing; here it is made so.
    """
    there = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]
        if there is not None:
            sys.modules[TELEMETRY] = there


def opened(opening: Opening) -> OpenVinoBackend:
    """Open an artefact on the CPU."""
    return OpenVinoBackend(opening.model, opening.threads, opening.output)


def here(name: str) -> str:
    """The version of OpenVINO."""
    return openvino_here()
