"""TensorRT on the GPU: an engine built here from an ONNX file and kept, or an engine's file."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import ImageInput
from edge_bench.backends.engine import build_engine, tensorrt_here
from edge_bench.backends.engine_cache import (
    EngineRecord,
    Outside,
    bundled_engine,
    cached_engine,
    engine_key,
    given_engine,
)
from edge_bench.backends.gpu import Gpu, probe_gpu
from edge_bench.backends.nvidia import (
    TENSORRT,
    Compiler,
    captured_errors,
    reason,
    require_tensorrt,
)
from edge_bench.backends.ort import image_input, logits_output
from edge_bench.backends.registry import Opening
from edge_bench.core.errors import ArdxError, CapabilityError, InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.core.spec import BackendInfo, ModelCard
from edge_bench.files.kinds import Kind, kind_of
from edge_bench.files.onnx_file import model_card, read_onnx
from edge_bench.options.engine import EngineOptions


def outside_of(onnx: Path) -> tuple[Outside, ModelCard | None]:
    """What an ONNX classifier shows to its callers, and its card.

    Raises:
        InputError: no ONNX model, no image classifier, or one of free image size.
    """
    graph = read_onnx(onnx)
    image = image_input(list(graph.inputs), onnx)
    classes, output = logits_output(list(graph.outputs), onnx)
    channels, height, width = image.image_shape
    if channels is None or height is None or width is None:
        raise InputError(
            f"{onnx}: leaves its image size open {image.image_shape}, but an engine is built for "
            "one; export it with a fixed image size"
        )
    outside = Outside(
        input=image.name,
        dtype=image.dtype,
        channels_last=image.channels_last,
        image_shape=(channels, height, width),
        batch_size=image.batch_size,
        output=output,
        classes=classes,
    )
    return outside, model_card(graph.metadata, onnx)


class TrtBackend:
    """One engine in one execution context, with buffers for the largest batch that it takes.

    Of either of NVIDIA's compilers: what `compiler` is.

    `infer` copies the images to the GPU and the logits back, as ONNX Runtime's does; a Jetson's
    GPU shares its memory with the CPU, so a program of yours may leave these copies out.

    Raises:
        CapabilityError: no TensorRT, no Polygraphy, no GPU, or no memory on it.
        InputError: not a classifier with one image input, or an engine of another machine.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        options: EngineOptions | None = None,
        report_progress: ProgressCallback = no_progress,
        compiler: Compiler = TENSORRT,
    ) -> None:
        if threads is not None:
            raise InputError(f"--threads: {compiler.title} computes on the GPU; leave it out")
        trt = require_tensorrt(compiler)
        gpu = probe_gpu(backend=compiler.backend)
        with ExitStack() as stack:
            # Until the end: what TensorRT says while it runs must not reach stdout either.
            self._errors = stack.enter_context(captured_errors())
            wanted = options or EngineOptions()
            found = _engine(path, trt, gpu, wanted, report_progress, compiler)
            serialized, self._record = found
            self._path, self._title = path, f"{compiler.title} {trt.__version__}"
            self._open(trt, serialized, stack)
            self._resources = stack.pop_all()
        record, outside = self._record, self._record.outside
        self.input = ImageInput(
            name=outside.input,
            dtype=outside.dtype,
            channels_last=outside.channels_last,
            image_shape=outside.image_shape,
            batch_size=outside.batch_size,
        )
        self.classes = outside.classes
        self.card = record.card
        self.engine_sha256: str | None = record.engine_sha256
        if kind_of(path) is Kind.ENGINE and record.card is not None:
            # An engine is a file of its own, made from the ONNX file.
            self.card = replace(record.card, parent_sha256=record.key.onnx_sha256)
        self.info = BackendInfo(
            name=compiler.backend,
            version=trt.__version__,
            providers=(f"{gpu.name} (sm {gpu.compute_capability})",),
            threads=None,
        )

    def _open(self, trt: Any, serialized: bytes, stack: ExitStack) -> None:
        """Load the engine, and give its tensors memory on the GPU; `stack` gives it back."""
        from polygraphy.backend.trt import get_trt_logger
        from polygraphy.cuda import wrapper

        try:
            # The runtime must outlive its engine, and the engine its context.
            self._runtime = runtime = trt.Runtime(get_trt_logger())
            self._engine = engine = runtime.deserialize_cuda_engine(serialized)
            self._context = engine.create_execution_context()
            self._cuda = wrapper()
            self._stream = self._cuda.create_stream()
            stack.callback(self._cuda.destroy_stream, self._stream)
            outside, largest = self._record.outside, self._record.key.shapes.largest
            names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
            if names != {outside.input, outside.output}:
                raise InputError(
                    f"{self._path}: its record speaks of {outside.input} and {outside.output}, "
                    f"but the engine has {', '.join(sorted(names))}; remove it, so that it is "
                    "built again"
                )
            self._logits_dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(outside.output)))
            self._shape: tuple[int, ...] | None = None
            self._bind(largest)
            image_bytes = prod(largest) * np.dtype(outside.dtype).itemsize
            self._images_on_gpu = self._allocate(outside.input, image_bytes, stack)
            self._logits_on_gpu = self._allocate(outside.output, self._logits.nbytes, stack)
        except ArdxError:
            raise
        except Exception as error:
            # A failure of TensorRT is a None, on which the line after it trips.
            raise CapabilityError(
                f"{self._path}: {self._title} cannot load the engine "
                f"({reason(self._errors, error)}); free memory of the GPU, see that libcudart is "
                "on LD_LIBRARY_PATH, or remove the engine, so that it is built again"
            ) from None

    def _allocate(self, name: str, size_bytes: int, stack: ExitStack) -> int:
        address: int = self._cuda.malloc(size_bytes)
        stack.callback(self._cuda.free, address)
        if not self._context.set_tensor_address(name, address):
            raise RuntimeError(f"no tensor {name}")
        return address

    def _bind(self, shape: tuple[int, ...]) -> None:
        """Tell the context the shape of what comes, and make room for its logits."""
        shapes, outside = self._record.key.shapes, self._record.outside
        if not shapes.take(shape):
            raise InputError(
                f"{self._path}: the engine takes images of shape {shapes.smallest} to "
                f"{shapes.largest}, came {shape}; give images of the model's dataset, in that "
                "batch size"
            )
        if not self._context.set_input_shape(outside.input, shape):
            raise CapabilityError(
                f"{self._path}: {self._title} refuses images of shape {shape} "
                f"({reason(self._errors[-1:], RuntimeError())}); remove the engine, so that it is "
                "built again"
            )
        logits_shape = tuple(self._context.get_tensor_shape(outside.output))
        self._logits = np.empty(logits_shape, dtype=self._logits_dtype)
        self._shape = shape

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """(B, ...) in the dtype and layout of `input` to logits (B, C).

        More images than the engine takes at once go through it in parts.
        """
        batch = np.ascontiguousarray(batch, dtype=self.input.dtype)
        most = self._record.key.shapes.largest[0]
        if self.input.batch_size is not None or len(batch) <= most:
            return self._infer_at_once(batch)
        parts = [batch[begin : begin + most] for begin in range(0, len(batch), most)]
        return np.concatenate([self._infer_at_once(part) for part in parts])

    def _infer_at_once(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        from polygraphy.cuda import MemcpyKind

        if batch.shape != self._shape:
            self._bind(batch.shape)
        cuda, stream, logits = self._cuda, self._stream, self._logits
        images = batch.ctypes.data
        cuda.memcpy(self._images_on_gpu, images, batch.nbytes, MemcpyKind.HostToDevice, stream)
        if not self._context.execute_async_v3(stream):
            raise CapabilityError(
                f"{self._path}: {self._title} failed on a batch of shape {batch.shape} "
                f"({reason(self._errors[-1:], RuntimeError())}); free memory of the GPU, or lower "
                "--batch-size"
            )
        out, size_bytes = logits.ctypes.data, logits.nbytes
        cuda.memcpy(out, self._logits_on_gpu, size_bytes, MemcpyKind.DeviceToHost, stream)
        cuda.stream_synchronize(stream)
        # A copy: the next call fills the same memory.
        return logits.astype(np.float32)

    def __enter__(self) -> TrtBackend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()
        # In this order: each needs the next one.
        del self._context
        del self._engine
        del self._runtime


def _engine(
    path: Path,
    trt: Any,
    gpu: Gpu,
    options: EngineOptions,
    report_progress: ProgressCallback,
    compiler: Compiler,
) -> tuple[bytes, EngineRecord]:
    """The engine at `path`, or the one that the ONNX file at `path` becomes."""
    if kind_of(path) is Kind.ENGINE:
        return given_engine(path, trt.__version__, gpu, compiler.title)
    outside, card = outside_of(path)
    key = engine_key(
        path,
        trt.__version__,
        gpu if compiler.aim is None else None,
        outside,
        options,
        compiler=compiler.title,
        capabilities=() if compiler.aim is None else (gpu.compute_capability,),
    )
    if options.bundled is not None:
        return bundled_engine(options.bundled, key, gpu)

    def build(timing: Path, told: ProgressCallback) -> bytes:
        return build_engine(path, key, outside, timing, told, compiler)

    return cached_engine(path, key, outside, card, options.cache, build, report_progress)


def opened_by(compiler: Compiler, opening: Opening) -> TrtBackend:
    """Open an artefact as an engine of `compiler`, which is built if it is not there yet."""
    if opening.output is not None:
        raise InputError(
            f"--output {opening.output}: an engine of {compiler.title} gives all outputs of its "
            "graph; leave it out, and cut the graph where it has several"
        )
    return TrtBackend(
        opening.model, opening.threads, opening.engine, opening.report_progress, compiler
    )


def opened(opening: Opening) -> TrtBackend:
    """Open an artefact as an engine of TensorRT."""
    return opened_by(TENSORRT, opening)


def here(name: str) -> str:
    """The version of TensorRT, and the GPU."""
    return tensorrt_here(TENSORRT)
