"""Write tests/data/tensorrt_names.json: which names TensorRT and Polygraphy really have.

TensorRT's wheels hold no type stubs, but their bindings tell their own names and parameters. They
load without TensorRT's libraries (gigabytes, and from another index) where libraries of the same
name define the nine functions that they link to. Nothing is called, so nothing needs a GPU.

    pip download --no-deps --only-binary=:all: --python-version 3.11 -d WHEELS \
      --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
      tensorrt-cu12-bindings==10.3.0      (and so on, one version a time)
    pip download --no-deps -d WHEELS polygraphy
    python3.11 tests/tools/tensorrt_names.py WHEELS/*.whl

Needs cc, and the Python that the wheels are for. Only names are kept; no code of the wheels is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "data" / "tensorrt_names.json"

LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)

READ_TENSORRT = r"""
import inspect, json, re
import tensorrt_bindings as trt

CLASSES = (
    "BuilderFlag", "Builder", "IBuilderConfig", "ICudaEngine", "IExecutionContext",
    "IOptimizationProfile", "IProgressMonitor", "ITimingCache", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParser", "ProfilingVerbosity", "Runtime",
)
CALLED = ("ICudaEngine", "IExecutionContext", "IProgressMonitor", "Runtime")

def parameters(method, name):
    text = method.__doc__ or ""
    found = []
    for line in re.findall(rf"^(?:\d+\. )?{name}\((.*)\)", text, re.MULTILINE):
        if line != "*args, **kwargs":
            names = re.findall(r"(?:^|, )(\w+):", re.sub(r"\[[^\]]*\]|<[^>]*>", "", line))
            found.append([one for one in names if one != "self"])
    return found

names = {"": sorted(name for name in dir(trt) if not name.startswith("_"))}
overloads = {}
for cls in CLASSES:
    kind = getattr(trt, cls)
    names[cls] = sorted(name for name in dir(kind) if not name.startswith("_"))
    for name in names[cls]:
        signatures = parameters(getattr(kind, name), name) if cls in CALLED else None
        if signatures:
            overloads[f"{cls}.{name}"] = signatures
print(json.dumps({"names": names, "overloads": overloads}))
"""

READ_POLYGRAPHY = r"""
import inspect, json
from polygraphy import config, cuda
from polygraphy.backend import trt
from polygraphy.logger import G_LOGGER

def parameters(function):
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    if "kwargs" in names:
        # CreateConfig hands the rest to the class that it extends.
        base = function.__globals__[function.__qualname__.partition(".")[0]].__mro__[1]
        names = [name for name in names if name != "kwargs"] + parameters(base.__init__)
    return names

found = {
    f"polygraphy.backend.trt.{name}": parameters(getattr(trt, name).__init__)
    for name in ("CreateConfig", "EngineBytesFromNetwork", "NetworkFromOnnxPath")
}
found["polygraphy.backend.trt.Profile"] = []
found["polygraphy.backend.trt.Profile.add"] = parameters(trt.Profile.add)
found["polygraphy.backend.trt.get_trt_logger"] = parameters(trt.get_trt_logger)
found["polygraphy.cuda.wrapper"] = parameters(cuda.wrapper)
found |= {
    f"polygraphy.cuda.wrapper().{name}": parameters(value)
    for name, value in vars(cuda.Cuda).items()
    if not name.startswith("_")
}
found |= {
    f"polygraphy.cuda.MemcpyKind.{name}": []
    for name in vars(cuda.MemcpyKind)
    if not name.startswith("_")
}
found |= {
    f"polygraphy.config.{name}": [] for name in dir(config) if name.startswith("USE_TENSORRT")
}
found["polygraphy.logger.G_LOGGER"] = []
found |= {
    f"polygraphy.logger.G_LOGGER.{name}": []
    for name in dir(G_LOGGER)
    if name.startswith(("use_", "colors"))
}
print(json.dumps(found))
"""


def main(wheels: list[Path]) -> None:
    """Read every wheel in a process of its own and write the names."""
    found: dict[str, Any] = {"tensorrt": {}, "polygraphy": {}}
    with tempfile.TemporaryDirectory() as folder:
        for wheel in sorted(wheels):
            inside = Path(folder) / wheel.stem
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(inside)
            package, version = wheel.name.split("-")[:2]
            if package == "polygraphy":
                found["polygraphy"][version] = read(READ_POLYGRAPHY, inside, inside)
            else:
                libraries = stand_ins(inside, version.split(".")[0])
                found["tensorrt"][version] = read(READ_TENSORRT, inside, libraries)
    # One line for each list: thousands of lines would hide what a change changes.
    text = re.sub(r"\[\s+([^\[\]]*?)\s+\]", _on_one_line, json.dumps(found, indent=1))
    OUT.write_text(text + "\n", encoding="utf-8")


def stand_ins(folder: Path, major: str) -> Path:
    """Libraries by TensorRT's names, with the functions that the bindings link to."""
    source = folder / "stand_in.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for name in LIBRARIES:
        file = f"lib{name}.so.{major}"
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(folder / file)]
        subprocess.run([*command, str(source)], check=True)
    return folder


def read(script: str, package: Path, libraries: Path) -> Any:
    """What `script` prints as JSON in a process that sees the package and the libraries."""
    environment = os.environ | {"PYTHONPATH": str(package), "LD_LIBRARY_PATH": str(libraries)}
    command = [sys.executable, "-W", "ignore", "-c", script]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"{package.name}: {ended.stderr.strip().splitlines()[-1]}")
    return json.loads(ended.stdout.splitlines()[-1])


def _on_one_line(match: re.Match[str]) -> str:
    return "[" + re.sub(r"\s+", " ", match[1]) + "]"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
