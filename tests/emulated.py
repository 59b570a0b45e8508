"""A Raspberry Pi that is not there: its recorded files, and a real aarch64 Python under QEMU.

QEMU's user mode runs aarch64 programs with the kernel of this machine. A path that is there below
the board's root is taken from it, any other from here, so that `edge_bench` finds a Pi's device
tree, cores and sensors and the wheel's own kernels compute, but in a time that says nothing.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_bench.core.spec import Report
from edge_bench.files.store import read_json

from .boards import write_board

QEMU = "qemu-aarch64-static"
CORES = {"pi-4": "cortex-a72", "pi-5": "cortex-a76"}
CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class EmulatedBoard:
    """A board's file system, and the program that is its Python; children of it are, too."""

    root: Path
    python: Path

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Its Python with these arguments, and with this checkout to import from."""
        return subprocess.Popen(
            [str(self.python), *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def make_emulated(name: str, system: Path, folder: Path) -> EmulatedBoard:
    """The board of that name in a new folder, with what tests/tools/aarch64.py made of `system`."""
    root, python = folder / "root", folder / "bin" / "python3"
    write_board(name, root)
    for part in ("usr", "lib"):
        (root / part).symlink_to(system / part)
    # Compiled modules halve the time of a start. QEMU lets new files fall below this machine's
    # root, where the board's folders are not, so they get one that is here.
    cache = f"PYTHONPYCACHEPREFIX={system / 'pycache'}"
    words = [QEMU, "-cpu", CORES[name], "-L", root, "-U", "PYTHONDONTWRITEBYTECODE", "-E", cache]
    qemu, program = shlex.join(map(str, words)), shlex.quote(str(root / "usr/bin/python3"))
    # Not below the root, for Python looks for its library in the folders above its program. -0 is
    # the name that it takes for that program: its venv is found by it, and its children started.
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {qemu} -0 "$0" {program} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return EmulatedBoard(root, python)


@dataclass(frozen=True)
class Benched:
    """What `bench --json` wrote, printed and warned of."""

    report: Report
    summary: dict[str, Any]
    warnings: str


# A start takes longer than a benchmark: one does all that is asked of a board.
BENCHES = """
import json, sys
from edge_bench.cli import app
for words in json.loads(sys.argv[1]):
    try:
        app(words)
    except SystemExit as ended:
        if ended.code:
            raise
    print("\\f", end="", file=sys.stderr)
"""


def bench_on(
    boards: dict[str, EmulatedBoard], asked: Sequence[Sequence[object]], out: Path
) -> dict[str, list[Benched]]:
    """Run `bench --device rpi` on all of the boards at once, with reports in the new folder `out`.

    `asked` has the arguments of each benchmark, and a board's answers come in that order. A few
    calls are timed: nothing can be learnt from how long they take.
    """
    quick = ("--seconds", 0, "--settle-seconds", 0, "--runs", 3, "--warmup", 0, "--threads", 1)
    always = ("--device", "rpi", *quick, "--batch-size", 16, "--json", "--out")
    out.mkdir()
    running = {}
    for name, board in boards.items():
        words = [
            list(map(str, ("bench", *arguments, *always, out / f"{name}-{index}.json")))
            for index, arguments in enumerate(asked)
        ]
        running[name] = board.start("-c", BENCHES, json.dumps(words))
    found: dict[str, list[Benched]] = {}
    for name, process in running.items():
        printed, said = process.communicate()
        assert process.returncode == 0, said
        found[name] = []
        for index, warnings in enumerate(said.split("\f")[:-1]):
            summary, end = json.JSONDecoder().raw_decode(printed)
            printed = printed[end:].lstrip()
            report = read_json(out / f"{name}-{index}.json", Report, "a report")
            found[name].append(Benched(report, summary, warnings))
        assert not printed
        assert len(found[name]) == len(asked)
    return found


QEMU_X86 = "qemu-x86_64-static"
HASWELL = "Intel Core Processor (Haswell, no TSX)"


def write_haswell(root: Path, flags: str = "fpu sse2 ssse3 fma avx avx2") -> Path:
    """The root of an x86 machine that tells these flags of its processor; returns it."""
    (root / "proc").mkdir(parents=True, exist_ok=True)
    text = f"processor\t: 0\nmodel name\t: {HASWELL}\nflags\t\t: {flags}\n"
    (root / "proc/cpuinfo").write_text(text, encoding="utf-8")
    return root


def start_on_haswell(root: Path, *arguments: object) -> subprocess.Popen[str]:
    """This environment's Python on a processor with AVX2 and no VNNI, and the files of `root`."""
    return subprocess.Popen(
        [QEMU_X86, "-cpu", "Haswell-noTSX", "-L", str(root), sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
