"""NVIDIA's two compilers of one API, TensorRT and TensorRT for RTX: is one here, what does it say.

Polygraphy speaks to either, by a switch that it reads once, so a process builds with one of them.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge_bench.core.errors import CapabilityError, first_line

NO_GPU = re.compile(r"cudaError|Cuda Runtime|CUDA (driver|initialization|GPU)|libcuda")


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """One of the two.

    Attributes:
        backend: key of BACKENDS.
        title: its name, for people.
        modules: names of its Python bindings; Polygraphy knows the first.
        oldest: the oldest version that will do.
        bring, update: what brings its bindings, and newer ones.
        extra: the extra of ardx that brings the rest.
        aim: tells (its bindings, a builder's config) for which compute capabilities an engine is
            to be; None where one is always for the GPU at hand.
    """

    backend: str
    title: str
    modules: tuple[str, ...]
    oldest: tuple[int, int]
    bring: str
    update: str
    extra: str
    aim: Callable[[Any, Any, tuple[str, ...]], None] | None = None


TENSORRT = Compiler(
    backend="trt",
    title="TensorRT",
    modules=("tensorrt",),
    oldest=(10, 3),
    bring="on a Jetson make the venv with --system-site-packages, so that JetPack's are seen, "
    "elsewhere: pip install tensorrt",
    update="update it (on a Jetson: JetPack 6.2 or newer)",
    extra="tensorrt",
)


def bindings_of(compiler: Compiler) -> Any:
    """The module of its bindings. No GPU is needed, and Polygraphy's switch stays as it is.

    Raises:
        CapabilityError: missing, broken or too old, or without Polygraphy.
    """
    needs = f"--backend {compiler.backend} needs"
    try:
        module = _imported(compiler.modules)
    except Exception as error:
        # Bindings without their libraries raise OSError, those of another Python ImportError.
        raise CapabilityError(
            f"{needs} {compiler.title}'s Python bindings ({first_line(error)}); {compiler.bring}"
        ) from None
    if tuple(int(part) for part in module.__version__.split(".")[:2]) < compiler.oldest:
        oldest = ".".join(map(str, compiler.oldest))
        raise CapabilityError(
            f"{needs} {compiler.title} {oldest} or newer, came {module.__version__}; "
            f"{compiler.update}"
        )
    try:
        import polygraphy  # noqa: F401
    except Exception as error:
        raise _no_polygraphy(compiler, error) from None
    return module


def require_tensorrt(compiler: Compiler = TENSORRT) -> Any:
    """The module of its bindings, with Polygraphy switched to it for the rest of this process.

    Raises:
        CapabilityError: as `bindings_of`, or Polygraphy is switched to the other one.
    """
    module = bindings_of(compiler)
    from polygraphy import config

    rtx = compiler is not TENSORRT
    # Read once, when this module is imported first.
    if "polygraphy.backend.trt" in sys.modules and rtx != config.USE_TENSORRT_RTX:
        raise CapabilityError(
            f"--backend {compiler.backend}: this process uses NVIDIA's other compiler already, and "
            "polygraphy speaks to one of the two in a process; give each a command of its own"
        )
    config.USE_TENSORRT_RTX = rtx
    try:
        import polygraphy.backend.trt
        import polygraphy.cuda  # noqa: F401
    except Exception as error:
        raise _no_polygraphy(compiler, error) from None
    return module


def _imported(names: tuple[str, ...]) -> Any:
    """The first of these modules that is here, under the first of these names, too."""
    for name in names:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error
        else:
            # A package that only imports the bindings under this name may be left out.
            sys.modules.setdefault(names[0], module)
            return module
    raise missing


def _no_polygraphy(compiler: Compiler, error: Exception) -> CapabilityError:
    return CapabilityError(
        f"--backend {compiler.backend} needs polygraphy ({first_line(error)}); install it: "
        f"pip install 'ardx[{compiler.extra}]'"
    )


@contextmanager
def captured_errors() -> Iterator[list[str]]:
    """Yield a list that fills with what the compiler and Polygraphy call errors.

    They print everything to stdout otherwise, where `--json` writes its summary. That Polygraphy
    calls what the bindings call deprecated is not for ardx's users.
    """
    from polygraphy.logger import G_LOGGER

    errors: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record.getMessage())

    logger, handler = logging.getLogger("Polygraphy"), Keep(logging.ERROR)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    before = G_LOGGER.use_python_logging_system, G_LOGGER.colors
    G_LOGGER.use_python_logging_system, G_LOGGER.colors = True, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield errors
    finally:
        G_LOGGER.use_python_logging_system, G_LOGGER.colors = before
        logger.propagate = propagate
        logger.removeHandler(handler)


def reason(errors: list[str], error: BaseException) -> str:
    """The first error that was logged, without its prefix; else the exception's line.

    That no GPU answers is said beside any other error, and is one only where nothing else is.
    """
    telling = [text for text in errors if not NO_GPU.search(text.strip().split("\n")[0])]
    if not errors:
        return first_line(error)
    first = (telling or errors)[0]
    return first_line(RuntimeError(re.sub(r"^\s*\[.\]\s*", "", first)))
