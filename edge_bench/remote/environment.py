"""On the board: a Python that has what the benchmark imports, used as it is or made beside it."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from edge_bench.core.errors import CapabilityError
from edge_bench.remote.layout import WHEELS

READY = "ready"
PIP = "from importlib.util import find_spec; print('here' if find_spec('pip') else '')"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A module that is needed.

    Attributes:
        requirement: for pip; `NAME>=VERSION`.
        others: distributions that bring the same module.
    """

    module: str
    requirement: str
    others: tuple[str, ...] = ()

    def is_here(self) -> bool:
        """Can this Python import it, in a version that will do?

        Of a module without metadata, as one that was built by hand, nothing speaks against it.
        """
        if find_spec(self.module) is None:
            return False
        name, least = self.requirement.split(">=")
        for distribution in (name, *self.others):
            try:
                return _numbers(metadata.version(distribution)) >= _numbers(least)
            except metadata.PackageNotFoundError:
                continue
        return True


PACKAGES = (
    Package(module="numpy", requirement="numpy>=1.24"),
    Package(module="typer", requirement="typer>=0.26"),
    Package(module="psutil", requirement="psutil>=5.9"),
)
RUNTIMES = {
    "edge": Package(
        module="onnxruntime", requirement="onnxruntime>=1.17", others=("onnxruntime-gpu",)
    ),
    "openvino": Package(module="openvino", requirement="openvino>=2025.0"),
    # TensorRT itself comes with JetPack.
    "tensorrt": Package(module="polygraphy", requirement="polygraphy>=0.53"),
}
"""By the extra of the distribution that brings them."""
GPU = Package(module="onnxruntime", requirement="onnxruntime-gpu>=1.17", others=("onnxruntime",))
RTX = (
    RUNTIMES["tensorrt"],
    Package(module="tensorrt_rtx_libs", requirement="tensorrt-rtx-cu13-libs>=1.7"),
    Package(module="tensorrt_rtx_bindings", requirement="tensorrt-rtx-cu13-bindings>=1.7"),
)
BY_BACKEND = {
    "ort": (RUNTIMES["edge"],),
    "ort-cuda": (GPU,),
    "ort-tensorrt": (GPU,),
    "openvino": (RUNTIMES["openvino"],),
    "trt": (RUNTIMES["tensorrt"],),
    "trt-rtx": RTX,
}


def needed(backend: str) -> list[Package]:
    """What a backend needs; `all` needs any one runtime, and an unknown backend none."""
    if backend == "all":
        here = any(package.is_here() for package in RUNTIMES.values())
        return [*PACKAGES, *([] if here else [RUNTIMES["edge"]])]
    return [*PACKAGES, *BY_BACKEND.get(backend, ())]


def missing(backend: str) -> list[str]:
    """Of what a backend needs, what this Python lacks, as pip reads it."""
    return [package.requirement for package in needed(backend) if not package.is_here()]


def environment_of(root: Path, backend: str) -> Path:
    """Where the environment for a backend lies; one for each Python and its requirements."""
    text = [sys.version, sys.base_prefix, platform.machine()]
    text += [package.requirement for package in needed(backend)]
    return root / f"venv-{hashlib.sha256(' '.join(text).encode()).hexdigest()[:16]}"


def is_ready(environment: Path) -> bool:
    """Was this environment made to the end?"""
    return (environment / READY).is_file()


def make(environment: Path, job_folder: Path, backend: str, python: str) -> None:
    """Make an environment that sees the board's own packages, and install those that are missing.

    The system's packages stay visible, since that is where JetPack keeps TensorRT. Offline where
    the job brought wheels.

    Raises:
        CapabilityError: no venv here, or pip could not.
    """
    shutil.rmtree(environment, ignore_errors=True)
    own_python = str(environment / "bin" / "python")
    remedy = (
        f"{python} can make no environment with pip there; install both (apt install python3-venv "
        "python3-pip), or name a Python that has the packages by --remote-python"
    )
    # Debian's Python makes one with a pip of its own only where python3-venv is installed.
    _run(
        [python, "-m", "venv", "--system-site-packages", "--without-pip", str(environment)], remedy
    )
    if _ask([own_python, "-c", PIP]) != "here":
        _run([own_python, "-m", "ensurepip"], remedy)
    # Asked there: a `python` that is in an environment itself sees other packages.
    requirements = _ask([own_python, "-m", "edge_bench.remote.environment", backend]).split()
    names = " ".join(requirements)
    print(f"installs {names} into {environment}", file=sys.stderr, flush=True)
    wheels = job_folder / WHEELS
    offline = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()}"
    remedy = (
        f"--wheels holds no {names} that fits {version}; put wheels for it there"
        if offline
        else f"pip could not install {names} there; without a network, give --wheels DIR with "
        f"wheels for {version}"
    )
    pip = [own_python, "-m", "pip", "install", "--no-input", "--quiet"]
    pip += ["--disable-pip-version-check", "--progress-bar", "off"]
    _run([*pip, *offline, *requirements], remedy)
    (environment / READY).touch()


def _run(command: list[str], remedy: str) -> None:
    ended = subprocess.run(  # noqa: S603, our own words
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, check=False
    )
    if ended.returncode:
        raise CapabilityError(remedy)


def _ask(command: list[str]) -> str:
    ended = subprocess.run(  # noqa: S603, our own words
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    )
    return ended.stdout.strip()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


if __name__ == "__main__":
    print(*missing(sys.argv[1]))
