"""ONNX to an engine, by one path: TensorRT 10.3 to 11.4 for the GPU at hand, TensorRT for RTX for
named compute capabilities.

The network is strongly typed: every precision is the graph's own (QDQ for INT8, float16 tensors
for FP16), as TensorRT 11 demands and 10 allows, so no precision flag, calibrator or range is set.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_bench.backends.engine_cache import EngineKey, Outside
from edge_bench.backends.gpu import probe_gpu
from edge_bench.backends.nvidia import (
    TENSORRT,
    Compiler,
    bindings_of,
    captured_errors,
    reason,
    require_tensorrt,
)
from edge_bench.core.errors import ArdxError, CapabilityError, InputError
from edge_bench.core.progress import ProgressCallback
from edge_bench.files.store import atomic_file

PARTS = 1000
"""Steps into which the progress of a build is divided."""
_failed: list[Path] = []
"""What no engine could be built of in this process."""


def tensorrt_here(compiler: Compiler = TENSORRT) -> str:
    """The compiler and the GPU of this machine, for people.

    Raises:
        CapabilityError: there is none that ardx can use.
    """
    trt = bindings_of(compiler)
    gpu = probe_gpu(backend=compiler.backend)
    return f"{trt.__version__} on {gpu.name} (sm {gpu.compute_capability})"


class RefusedError(InputError):
    """A parser cannot read a file; `why` are its own words, of one line."""

    def __init__(self, sentence: str, why: str) -> None:
        super().__init__(sentence)
        self.why = why


def read_network(onnx: Path, compiler: Compiler = TENSORRT) -> Any:
    """Have the compiler's own parser read `onnx`; no GPU is needed.

    Raises:
        RefusedError: it cannot.
        CapabilityError: no such compiler is here.
    """
    trt = require_tensorrt(compiler)
    from polygraphy.backend.trt import NetworkFromOnnxPath

    with captured_errors() as errors:
        try:
            return NetworkFromOnnxPath(str(onnx), strongly_typed=True)()
        except Exception as error:
            why = reason(errors, error)
            raise RefusedError(
                f"{onnx}: {compiler.title} {trt.__version__} cannot read it ({why}); export it "
                "for TensorRT (ardx export --int8 --target tensorrt, or fp32)",
                why,
            ) from None


def build_engine(
    onnx: Path,
    key: EngineKey,
    outside: Outside,
    timing: Path,
    report_progress: ProgressCallback,
    compiler: Compiler = TENSORRT,
) -> bytes:
    """The engine of `onnx` as bytes; minutes on a small board.

    Raises:
        InputError: the compiler cannot read the graph.
        CapabilityError: it finds no kernels for it there, or no memory.
    """
    trt = require_tensorrt(compiler)
    from polygraphy.backend.trt import EngineBytesFromNetwork

    if compiler.aim is not None and _failed:
        # Seen of 1.7: where it finds no kernels for Turing, its next engine, for any capability,
        # computes INT8 layers in float. A Python loop over files must not fall for it.
        raise CapabilityError(
            f"{onnx}: not built, since a build of {_failed[0]} failed in this process, after which "
            f"{compiler.title} may compute in float what is in integers; build it in a new process"
        )
    monitor = _monitor(trt, BuildProgress(report_progress, compiler.title))
    network = read_network(onnx, compiler)
    with captured_errors() as errors, tempfile.TemporaryDirectory() as folder:
        # Polygraphy reads and writes the timing cache in place; a copy keeps ours whole.
        copy = Path(folder) / "timing.cache"
        copy.write_bytes(timing.read_bytes() if timing.exists() else b"")
        config = _config(trt, compiler, key, outside, copy, monitor)
        try:
            built = EngineBytesFromNetwork(network, config=config, save_timing_cache=str(copy))()
            engine = bytes(built)
        except Exception as error:
            if monitor.interrupted is not None:
                raise monitor.interrupted from None
            if isinstance(error, ArdxError):
                raise
            _failed.append(onnx)
            remedy = (
                "leave out of --for what it has no kernels for (sm75 has them for --fp16 alone), "
                "or raise --workspace-mib"
                if key.capabilities
                else "give it memory (close other programs, lower --batch-size, raise "
                f"--workspace-mib) or remove {timing}"
            )
            raise CapabilityError(
                f"{onnx}: {compiler.title} {trt.__version__} cannot build an engine of it "
                f"{key.place()} ({reason(errors, error)}); {remedy}"
            ) from None
        with atomic_file(timing, force=True) as partial:
            partial.write_bytes(copy.read_bytes())
    return engine


def _config(
    trt: Any, compiler: Compiler, key: EngineKey, outside: Outside, timing: Path, monitor: Any
) -> Callable[[Any, Any], Any]:
    """How to build, as Polygraphy's loaders want it told."""
    from polygraphy.backend.trt import CreateConfig, Profile

    limits = {}
    if key.workspace_mib is not None:
        limits[trt.MemoryPoolType.WORKSPACE] = key.workspace_mib << 20
    shapes = key.shapes
    profile = Profile().add(
        outside.input, min=shapes.smallest, opt=shapes.tuned, max=shapes.largest
    )
    create = CreateConfig(
        profiles=[profile],
        load_timing_cache=str(timing),
        memory_pool_limits=limits,
        # Full detail would only make the file larger.
        profiling_verbosity=trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
        progress_monitor=monitor,
        # What the graph calls float32 is computed in float32. (Polygraphy's own class for
        # TensorRT for RTX would leave TF32 on.)
        tf32=False,
    )

    def config(builder: Any, network: Any) -> Any:
        created = create(builder, network)
        if compiler.aim is not None:
            compiler.aim(trt, created, key.capabilities)
        return created

    return config


class BuildProgress:
    """TensorRT's nested phases, each of so many steps, as one figure that never falls."""

    def __init__(self, report_progress: ProgressCallback, title: str = TENSORRT.title) -> None:
        self._report, self._title = report_progress, title
        self._phases: dict[str, tuple[str | None, int, int]] = {}
        self._said = -1

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins inside `parent`."""
        within = parent if parent in self._phases and parent != phase else None
        self._phases[phase] = (within, steps, 0)
        self._tell(f"{self._title}: {phase}" if within is None else "")

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
