"""ONNX to a TensorRT engine, on the machine that will run it: TensorRT 10.3 to 11.4 by one path.

The network is strongly typed: every precision is the graph's own (QDQ for INT8, float16 tensors
for FP16), as TensorRT 11 demands and 10 allows, so no precision flag, calibrator or range is set.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_bench.backends.engine_cache import EngineKey, Outside
from edge_bench.backends.gpu import probe_gpu
from edge_bench.core.errors import CapabilityError, InputError, first_line
from edge_bench.core.progress import ProgressCallback
from edge_bench.files.store import atomic_file

OLDEST = (10, 3)
PARTS = 1000
"""Steps into which the progress of a build is divided."""


def require_tensorrt() -> tuple[Any, Any]:
    """The modules tensorrt and polygraphy.

    Raises:
        CapabilityError: one of them is missing, broken or too old.
    """
    try:
        import tensorrt
    except Exception as error:
        # Bindings without their libraries raise OSError, those of another Python ImportError.
        raise CapabilityError(
            f"--backend trt needs TensorRT's Python bindings ({first_line(error)}); on a Jetson "
            "make the venv with --system-site-packages, so that JetPack's are seen, elsewhere: "
            "pip install tensorrt"
        ) from None
    found = tuple(int(part) for part in tensorrt.__version__.split(".")[:2])
    if found < OLDEST:
        raise CapabilityError(
            f"--backend trt needs TensorRT 10.3 or newer, came {tensorrt.__version__}; update it "
            "(on a Jetson: JetPack 6.2 or newer)"
        )
    try:
        import polygraphy.backend.trt
        import polygraphy.cuda
    except Exception as error:
        raise CapabilityError(
            f"--backend trt needs polygraphy ({first_line(error)}); install it: "
            "pip install 'ardx[tensorrt]'"
        ) from None
    return tensorrt, polygraphy


def tensorrt_here() -> str:
    """The TensorRT and GPU of this machine, for people.

    Raises:
        CapabilityError: there is none that ardx can use.
    """
    trt, _ = require_tensorrt()
    gpu = probe_gpu()
    return f"{trt.__version__} on {gpu.name} (sm {gpu.compute_capability})"


def build_engine(
    onnx: Path, key: EngineKey, outside: Outside, timing: Path, report_progress: ProgressCallback
) -> bytes:
    """The engine of `onnx` as bytes; minutes on a small board.

    Raises:
        InputError: TensorRT cannot read the graph.
        CapabilityError: TensorRT finds no kernels for it here, or no memory.
    """
    trt, _ = require_tensorrt()
    from polygraphy.backend.trt import (
        CreateConfig,
        EngineBytesFromNetwork,
        NetworkFromOnnxPath,
        Profile,
    )

    monitor = _monitor(trt, BuildProgress(report_progress))
    limits = {}
    if key.workspace_mib is not None:
        limits[trt.MemoryPoolType.WORKSPACE] = key.workspace_mib << 20
    shapes = key.shapes
    profile = Profile().add(
        outside.input, min=shapes.smallest, opt=shapes.tuned, max=shapes.largest
    )
    with captured_errors() as errors, tempfile.TemporaryDirectory() as folder:
        try:
            network = NetworkFromOnnxPath(str(onnx), strongly_typed=True)()
        except Exception as error:
            raise InputError(
                f"{onnx}: TensorRT {trt.__version__} cannot read it ({reason(errors, error)}); "
                "export it for TensorRT (ardx export --int8 --target tensorrt, or fp32)"
            ) from None
        # Polygraphy reads and writes the timing cache in place; a copy keeps ours whole.
        copy = Path(folder) / "timing.cache"
        copy.write_bytes(timing.read_bytes() if timing.exists() else b"")
        config = CreateConfig(
            profiles=[profile],
            load_timing_cache=str(copy),
            memory_pool_limits=limits,
            # Full detail would only make the file larger.
            profiling_verbosity=trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
            progress_monitor=monitor,
            # What the graph calls float32 is computed in float32.
            tf32=False,
        )
        try:
            built = EngineBytesFromNetwork(network, config=config, save_timing_cache=str(copy))()
            engine = bytes(built)
        except Exception as error:
            if monitor.interrupted is not None:
                raise monitor.interrupted from None
            raise CapabilityError(
                f"{onnx}: TensorRT {trt.__version__} cannot build an engine of it on "
                f"{key.gpu.name} ({reason(errors, error)}); give it memory (close other programs, "
                f"lower --batch-size, raise --workspace-mib) or remove {timing}"
            ) from None
        with atomic_file(timing, force=True) as partial:
            partial.write_bytes(copy.read_bytes())
    return engine


class BuildProgress:
    """TensorRT's nested phases, each of so many steps, as one figure that never falls."""

    def __init__(self, report_progress: ProgressCallback) -> None:
        self._report = report_progress
        self._phases: dict[str, tuple[str | None, int, int]] = {}
        self._said = -1

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins inside `parent`."""
        within = parent if parent in self._phases and parent != phase else None
        self._phases[phase] = (within, steps, 0)
        self._tell(f"TensorRT: {phase}" if within is None else "")

    def step(self, phase: str, step: int) -> None:
        """Step `step` of a phase, counted from 0, is done."""
        if phase in self._phases:  # An odd order is no reason to end a build.
            within, steps, _ = self._phases[phase]
            self._phases[phase] = (within, steps, step + 1)
            self._tell("")

    def finish(self, phase: str) -> None:
        """A phase is over; TensorRT may leave out its last steps."""
        self._phases.pop(phase, None)
        if not self._phases:
            self._said = -1

    def _tell(self, text: str) -> None:
        roots = [name for name, (within, _, _) in self._phases.items() if within is None]
        done = int(PARTS * self._share(roots[0])) if roots else 0
        if text or done > self._said:
            self._said = max(done, self._said)
            self._report(self._said, PARTS, text)

    def _share(self, phase: str) -> float:
        _, steps, done = self._phases[phase]
        inside = [self._share(name) for name, (up, _, _) in self._phases.items() if up == phase]
        return min(1.0, (done + max(inside, default=0.0)) / max(steps, 1))


def _monitor(trt: Any, progress: BuildProgress) -> Any:
    """`progress` as TensorRT wants it told. An exception must not pass through TensorRT."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._guarded(lambda: progress.start(phase_name, parent_phase or None, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._guarded(lambda: progress.step(phase_name, step))
            return self.interrupted is None  # False ends the build.

        def phase_finish(self, phase_name: str) -> None:
            self._guarded(lambda: progress.finish(phase_name))

        def _guarded(self, tell: Any) -> None:
            try:
                if self.interrupted is None:
                    tell()
            except BaseException as error:
                self.interrupted = error

    return Monitor()


@contextmanager
def captured_errors() -> Iterator[list[str]]:
    """Yield a list that fills with what TensorRT and Polygraphy call errors.

    They print everything to stdout otherwise, where `--json` writes its summary.
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
        yield errors
    finally:
        G_LOGGER.use_python_logging_system, G_LOGGER.colors = before
        logger.propagate = propagate
        logger.removeHandler(handler)


def reason(errors: list[str], error: BaseException) -> str:
    """The first error that was logged, without its prefix; else the exception's line."""
    if not errors:
        return first_line(error)
    return first_line(RuntimeError(re.sub(r"^\s*\[.\]\s*", "", errors[0])))
