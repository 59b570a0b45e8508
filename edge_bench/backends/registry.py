"""The runtimes by name. To add one: a file here, and an entry in BACKENDS.

A file has `opened`, of an `Opening`, and `here`, of the backend's name. It is imported when its
runtime is asked for, so that help, `doctor` and a board without numpy can name every runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_bench.backends.packages import Package
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.options.engine import EngineOptions

if TYPE_CHECKING:
    from edge_bench.backends.base import Backend


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What is to be opened, and how.

    Attributes:
        name: key of BACKENDS.
        threads: None leaves their number to the runtime.
        output: of the graph, which gives the logits; None where only one can.
        engine: how a runtime that `builds` does so.
        report_progress: hears how far that is.
    """

    name: str
    model: Path
    threads: int | None = None
    output: str | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    report_progress: ProgressCallback = no_progress


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A way to run an artefact.

    Attributes:
        file: the file in this folder that opens it.
        text: what it is, for people.
        packages: what it needs besides what every command needs.
        extra: of the distribution, which brings them; None where no extra may.
        mend: what brings it where it is not here.
        builds: it builds an engine first, which takes a while, and computes on a GPU.
    """

    file: str
    text: str
    packages: tuple[Package, ...]
    extra: str | None
    mend: str
    builds: bool = False

    @property
    def takes_threads(self) -> bool:
        """False where the CPU's threads compute nothing."""
        return not self.builds

    def open(self, opening: Opening) -> Backend:
        """The artefact, opened."""
        found: Backend = self._module().opened(opening)
        return found

    def here(self, name: str) -> str:
        """What of it is on this machine, for people.

        Raises:
            CapabilityError: nothing is.
        """
        found: str = self._module().here(name)
        return found

    def _module(self) -> Any:
        return import_module(f"edge_bench.backends.{self.file}")


ORT = Package(module="onnxruntime", requirement="onnxruntime>=1.17", others=("onnxruntime-gpu",))
ORT_GPU = Package(
    module="onnxruntime", requirement="onnxruntime-gpu>=1.17", others=("onnxruntime",)
)
POLYGRAPHY = Package(module="polygraphy", requirement="polygraphy>=0.53")

BACKENDS: dict[str, Runtime] = {
    "ort": Runtime(
        file="ort",
        text="ONNX Runtime on the CPU",
        packages=(ORT,),
        extra="edge",
        mend="pip install 'ardx[edge]'",
    ),
    "ort-cuda": Runtime(
        file="ort",
        text="ONNX Runtime's CUDA provider",
        packages=(ORT_GPU,),
        extra=None,
        mend="onnxruntime-gpu in place of onnxruntime",
    ),
    "ort-tensorrt": Runtime(
        file="ort",
        text="ONNX Runtime's TensorRT provider",
        packages=(ORT_GPU,),
        extra=None,
        mend="onnxruntime-gpu in place of onnxruntime, and TensorRT",
    ),
    "openvino": Runtime(
        file="openvino",
        text="OpenVINO on the CPU",
        packages=(Package(module="openvino", requirement="openvino>=2025.0"),),
        extra="openvino",
        mend="pip install 'ardx[openvino]'",
    ),
    # TensorRT itself comes with JetPack.
    "trt": Runtime(
        file="trt",
        text="TensorRT",
        packages=(POLYGRAPHY,),
        extra="tensorrt",
        mend="JetPack, or pip install tensorrt; pip install 'ardx[tensorrt]'",
        builds=True,
    ),
    "trt-rtx": Runtime(
        file="trt_rtx",
        text="TensorRT for RTX, whose engines are built without a GPU",
        packages=(
            POLYGRAPHY,
            Package(module="tensorrt_rtx_libs", requirement="tensorrt-rtx-cu13-libs>=1.7"),
            Package(module="tensorrt_rtx_bindings", requirement="tensorrt-rtx-cu13-bindings>=1.7"),
        ),
        extra="tensorrt-rtx",
        mend="pip install 'ardx[tensorrt-rtx]', and an RTX GPU",
        builds=True,
    ),
}
