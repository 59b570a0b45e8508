"""Promises that tests of ours hold, and those about the package itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.lines import read_lines
from benchmarks.reliability.outcome import Outcome, counted

ROOT = Path(__file__).parents[2]
LIMIT_S = 600
NUMERICS = "The numbers are those of the processor, not of chance"
SUPPLY = "What is installed is what was built, and says what it is made of"
FUZZING = "No bytes make a parser fail"
TESTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "files, locks, journals and bundles": (
        "What was written is whole, and nobody else's",
        ("tests/edge_bench/files",),
    ),
    "what boards answer": (
        "Nothing that strangers send runs, leaves its folder, or steers a terminal",
        ("tests/edge_bench/remote/test_ssh.py", "tests/edge_bench/terminal/test_console.py"),
    ),
    "files of every version": ("Files of before are read", ("tests/test_formats.py",)),
}

NUMERICAL = ("tests/ard/learning/test_instruction_sets.py", "tests/deploy/lowering")


def steps(seconds: float) -> dict[str, Callable[[Path], Outcome]]:
    """Steps by name; `seconds` of fuzzing for each parser."""
    found: dict[str, Callable[[Path], Outcome]] = {"fuzz": partial(_fuzzed, seconds)}
    found |= {f"tests: {name}": partial(_tests, name) for name in TESTS}
    for isa in ("avx2", "default"):
        found[f"numerics: {isa}"] = partial(_numerics, isa)
    return found | {"wheel": _wheel}


def _pytest(words: tuple[str, ...], **more: str) -> list[str | None]:
    """Each test that ran, None where it passed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | more,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    counts = re.search(r"(\d+) passed", done.stdout)
    failures = re.findall(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)
    if counts is None and not failures:
        failures = [f"no test ran: {done.stdout[-200:]}{done.stderr[-100:]}"]
    return [None] * int(counts[1] if counts else 0) + failures


def _tests(name: str, folder: Path) -> Outcome:
    promise, words = TESTS[name]
    return counted(promise, f"`pytest {' '.join(words)}`", name, _pytest(words))


def _numerics(isa: str, folder: Path) -> Outcome:
    more = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"} if isa == "avx2" else {}
    told = "as if with AVX2 alone" if more else "as it is"
    by = f"`pytest {' '.join(NUMERICAL)}`"
    return counted(NUMERICS, by, f"the processor {told}", _pytest(NUMERICAL, **more))


def _fuzzed(seconds: float, folder: Path) -> Outcome:
    """Tried and held are executions here."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "fuzz.jsonl"
    words = ["--seconds", f"{seconds}", "--lines", str(lines), "--findings", str(folder / "found")]
    subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", *words],
        cwd=ROOT,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    found = read_lines(lines)
    failures = [why for line in found for why in line["found"]]
    executions = sum(line["executions"] for line in found)
    engines = " and ".join(sorted({line["engine"] for line in found}))
    return Outcome(
        promise=FUZZING,
        by=f"`make fuzz`, {seconds:g} s a parser, by {engines}; executions",
        to=f"{len(found)} parsers",
        tried=executions,
        held=executions - len(failures),
        failed=tuple(failures[:5]),
    )


def _wheel(folder: Path) -> Outcome:
    """Built twice, installed outside of the checkout, and used from an empty folder."""
    return counted(SUPPLY, "`pytest tests/packaging`", "the wheel", _pytest(("tests/packaging",)))
