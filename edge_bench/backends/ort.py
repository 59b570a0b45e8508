"""ONNX Runtime, on the CPU or with all of a graph on another execution provider."""

from __future__ import annotations

from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.backends.base import ImageInput
from edge_bench.backends.registry import Opening
from edge_bench.core.errors import CapabilityError, InputError, first_line
from edge_bench.core.spec import BackendInfo, ModelCard
from edge_bench.files.onnx_file import read_card
from edge_bench.files.store import require_file

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}

FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
"""What logits may be; integers and booleans are answers, which no score can be read off."""

PROVIDERS = {
    "ort": "CPUExecutionProvider",
    "ort-cuda": "CUDAExecutionProvider",
    "ort-tensorrt": "TensorrtExecutionProvider",
}
"""Backends of this file and the execution provider that each one runs on."""


def require_provider(name: str) -> Any:
    """The module onnxruntime, with the execution provider of the backend `name`.

    Raises:
        CapabilityError: onnxruntime is not installed, or was built without that provider.
    """
    try:
        import onnxruntime as ort

        here = ort.get_available_providers()
    except ImportError as error:
        raise CapabilityError(
            f"--backend {name} needs onnxruntime ({first_line(error)}); "
            "install it: pip install 'ardx[edge]'"
        ) from None
    except Exception as error:
        # One that is there but broken raises anything: half of it was removed with onnxruntime-gpu,
        # or a library that it needs is not there.
        raise CapabilityError(
            f"--backend {name} needs onnxruntime, and the one here is broken "
            f"({first_line(error)}); install it anew: pip install --force-reinstall onnxruntime"
        ) from None
    provider = PROVIDERS[name]
    if provider not in here:
        raise CapabilityError(
            f"--backend {name} needs ONNX Runtime's {provider}, but onnxruntime {ort.__version__} "
            f"here has {', '.join(here)} alone; install a build that has it in its place "
            "(onnxruntime-gpu, on a Jetson NVIDIA's own wheel), or use --backend ort"
        )
    return ort


def provider_here(name: str) -> str:
    """The version of ONNX Runtime in this environment, if it has the provider of `name`.

    Raises:
        CapabilityError: it has not.
    """
    version: str = require_provider(name).__version__
    return version


FIRST_SECONDS = 600.0
"""Within which the first inference ends, however slow the board."""


class OrtBackend:
    """One ONNX file in one inference session, under the session options of its card.

    ONNX Runtime leaves nodes that a provider cannot run to the CPU, and the whole graph where the
    provider cannot start, and goes on. Here either is an error.

    Args:
        path: the ONNX file.
        threads: of the CPU; None leaves it to ONNX Runtime.
        name: key of PROVIDERS.
        output: of the graph, which gives the logits; None where one alone can.

    Raises:
        CapabilityError: onnxruntime or the provider is not here, or cannot run all of the graph.
        InputError: not an ONNX model, or not a classifier with one image input.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        output: str | None = None,
        *,
        name: str = "ort",
    ) -> None:
        ort = require_provider(name)
        require_file(path, "an ONNX model")
        self.card = read_card(path)
        self.engine_sha256: str | None = None
        self._path = path
        self._session = _open_session(ort, path, threads, name, self.card)
        self._first: Any = ort.RunOptions()
        self.input = image_input(self._session.get_inputs(), path)
        self.classes, self._output = logits_output(self._session.get_outputs(), path, output)
        self.info = BackendInfo(
            name=name,
            version=ort.__version__,
            providers=tuple(self._session.get_providers()),
            threads=threads,
        )

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """(B, ...) in the dtype and layout of `input` to logits (B, C)."""
        try:
            (logits,) = self._run({self.input.name: batch})
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{self._path}: ONNX Runtime failed on a batch of shape {batch.shape} "
                f"({first_line(error)}); export it with a free batch size"
            ) from None
        # Of a float16 graph, too, whose own sums of exponentials would be rounded to it.
        return np.asarray(logits, dtype=np.float32)

    def _run(self, inputs: dict[str, NDArray[Any]]) -> Any:
        """All outputs asked for; the first time within FIRST_SECONDS, for graphs with a loop."""
        if self._first is None:
            return self._session.run([self._output], inputs)
        options, self._first = self._first, None
        timer = Timer(FIRST_SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            return self._session.run([self._output], inputs, options)
        except Exception:
            if options.terminate:
                raise InputError(
                    f"{self._path}: its first inference did not end within {FIRST_SECONDS:g} "
                    "seconds, as of a graph with a loop that never ends; see what the model does"
                ) from None
            raise
        finally:
            timer.cancel()

    def __enter__(self) -> OrtBackend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._session


def _open_session(
    ort: Any, path: Path, threads: int | None, name: str, card: ModelCard | None
) -> Any:
    provider, on_cpu = PROVIDERS[name], name == "ort"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    for key, value in (card.session_options if card else {}).items():
        options.add_session_config_entry(key, value)
    if threads is not None:
        options.intra_op_num_threads = threads
    if not on_cpu:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(
            str(path),
            sess_options=options,
            providers=[(provider, provider_options(ort, name, card))],
            # Else Python tries the CPU next, and says so on stdout.
            enable_fallback=0,
        )
    except Exception as error:
        # onnxruntime's own exceptions share no base class narrower than Exception. One that has
        # a cause (of before 1.20) is about the CPU that was tried next.
        why = first_line(error.__cause__ or error)
        if on_cpu:
            raise InputError(
                f"{path}: ONNX Runtime {ort.__version__} cannot load it as an ONNX model "
                f"({why}); export it again"
            ) from None
        raise CapabilityError(_cannot_run(path, name, why)) from None
    if session.get_providers()[0] != provider:
        raise CapabilityError(_cannot_run(path, name, "the provider did not start"))
    return session


def provider_options(ort: Any, name: str, card: ModelCard | None) -> dict[str, str]:
    """Options of a provider under which it computes what the graph says, and nothing less."""
    version = tuple(int(part) for part in ort.__version__.split(".")[:2])
    if name == "ort-cuda" and version >= (1, 18):
        return {"use_tf32": "0"}
    if name == "ort-tensorrt" and card is not None and card.precision == "int8":
        # TensorRT takes QDQ nodes only where INT8 is allowed.
        return {"trt_int8_enable": "1"}
    return {}


def _cannot_run(path: Path, name: str, why: str) -> str:
    return (
        f"--backend {name}: {PROVIDERS[name]} does not run all of {path} ({why}), and what it "
        "leaves would silently run elsewhere; see that its CUDA libraries are found, or use "
        "--backend ort or trt"
    )


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


def logits_output(
    outputs: list[Any], path: Path, wanted: str | None = None
) -> tuple[int | None, str]:
    """(classes, name) of the output of logits; None where the graph leaves classes open.

    Logits are floats (B, C), or (B, C, 1, 1) as a network of convolutions alone leaves them where
    there is no (B, C).

    Args:
        wanted: the value of --output; None takes the one output that can be logits.

    Raises:
        InputError: no such output, none or several that can be logits, or one of another kind.
    """
    told = ", ".join(f"{o.name} {o.type} {o.shape}" for o in outputs)
    if wanted is not None:
        named = [node for node in outputs if node.name == wanted]
        if not named:
            raise InputError(f"--output {wanted}: expected an output of {path}, which has {told}")
        if not _can_be_logits(named[0]):
            raise InputError(
                f"--output {wanted}: expected logits (B, classes) in floats, came "
                f"{named[0].type} {named[0].shape}; {path} has {told}"
            )
        candidates = named
    else:
        possible = [node for node in outputs if _can_be_logits(node)]
        candidates = [node for node in possible if len(node.shape) == 2] or possible
    if len(candidates) == 1:
        classes = candidates[0].shape[1]
        return (classes if isinstance(classes, int) else None), candidates[0].name
    remedy = (
        "name the one of logits: --output NAME"
        if candidates
        else "export the classifier with its logits alone"
    )
    raise InputError(
        f"{path}: expected one output of logits (B, classes) in floats, came {told}; {remedy}"
    )


def _can_be_logits(node: Any) -> bool:
    return node.type in FLOATS and len(node.shape) >= 2 and all(n == 1 for n in node.shape[2:])


def opened(opening: Opening) -> OrtBackend:
    """Open an artefact on the execution provider of the backend that is asked for."""
    return OrtBackend(opening.model, opening.threads, opening.output, name=opening.name)


def here(name: str) -> str:
    """The version of ONNX Runtime, if it has the provider of `name`."""
    return provider_here(name)
