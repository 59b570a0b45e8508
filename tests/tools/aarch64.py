"""Fill a folder with an aarch64 system that `qemu-aarch64-static` runs: Python and the runtime.

    apt-get install qemu-user-static
    .venv/bin/python tests/tools/aarch64.py .aarch64
    ARDX_TEST_BOARD=.aarch64 .venv/bin/pytest tests/ard/exporting/test_on_arm_boards.py

What a Raspberry Pi has: Debian's Python, and the packages that pyproject.toml asks for on a device,
in their wheels for aarch64. ONNX Runtime is of the version of this environment, so that it is the
architecture that differs. Needs the network, apt with Debian's sources, and pip, but no rights:
packages are unpacked, not installed. 180 MB. tests/emulated.py makes boards of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEBIAN = ("python3-venv", "libstdc++6")
UNUSED = ("share/doc", "share/locale", "share/man", "lib/aarch64-linux-gnu/gconv")
# Of the C library: wheels name the oldest that they run with, from manylinux2014 to Debian 12.
GLIBC_MINORS = range(36, 16, -1)
# Its own state and lists, and none of this machine's packages; the sources are this machine's.
APT = """\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "{folder}";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
"""


def unpack_debian(root: Path) -> None:
    """Debian's packages and all that they depend on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("lists/partial", "archives/partial"):
            (folder / part).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "apt.conf").write_text(APT.format(folder=folder), encoding="utf-8")
        environment = os.environ | {"APT_CONFIG": str(folder / "apt.conf")}
        for step in (["update"], ["install", "--yes", "--download-only", *DEBIAN]):
            command = ["apt-get", "--quiet=2", *step]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        for package in sorted((folder / "archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    for unused in UNUSED:
        shutil.rmtree(root / "usr" / unused, ignore_errors=True)
    if not (root / "lib").exists():  # Debian 13 leaves this link to a package that is not here.
        (root / "lib").symlink_to("usr/lib")


def install_wheels(root: Path) -> None:
    """The packages of the extra `edge`, where Debian's Python looks for those of pip."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    (library,) = (root / "usr/lib").glob("python3.*")
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in GLIBC_MINORS]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
            *("--only-binary=:all:", "--python-version", library.name.removeprefix("python")),
            *(f"--platform={platform}" for platform in [*platforms, "manylinux2014_aarch64"]),
            *("--target", root / "usr/local/lib" / library.name / "dist-packages"),
            *project["dependencies"],
            *project["optional-dependencies"]["edge"],
            f"onnxruntime=={version('onnxruntime')}",
        ],
        check=True,
    )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    out = Path(sys.argv[1])
    if out.exists():
        sys.exit(f"{out}: is there already; remove it to make it anew")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        unpack_debian(partial)
        install_wheels(partial)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        sys.exit(f"{out}: could not be made ({error}); see what apt and pip said above")
    partial.rename(out)


if __name__ == "__main__":
    main()
