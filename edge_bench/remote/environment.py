"""On the board: a Python that has what the benchmark imports, used as it is or made beside it."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from edge_bench.backends.packages import BASE, Package
from edge_bench.backends.registry import BACKENDS
from edge_bench.core.errors import CapabilityError
from edge_bench.remote.layout import WHEELS

READY = "ready"
PIP = "from importlib.util import find_spec; print('here' if find_spec('pip') else '')"


def needed(backend: str) -> list[Package]:
    """What a backend needs; `all` needs any one runtime, and an unknown backend none."""
    if backend == "all":
        runtimes = [runtime.packages for runtime in BACKENDS.values()]
        here = any(package.is_here() for packages in runtimes for package in packages)
        return [*BASE, *([] if here else runtimes[0])]
    return [*BASE, *(BACKENDS[backend].packages if backend in BACKENDS else ())]


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


if __name__ == "__main__":
    print(*missing(sys.argv[1]))
