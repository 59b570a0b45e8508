"""Fuzz every parser for a while: `python -m tests.fuzz.run --seconds 60 --lines fuzz.jsonl`.

Each parser runs in a process of its own, so that a hang or a crash of a library is seen and told.
Guided by coverage where atheris is installed (it has no wheels for every Python and system),
else by mutations of whole examples alone. Findings are written into --findings, a file each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from .parsers import PARSERS, Harness, mutated

GRACE_S = 150.0
"""For imports, and for one input; a parser that takes longer hangs."""
PACKAGES = ("ard.data.npz", "ard.learning.recipes", "edge_bench")


def by_mutations(harness: Harness, seconds: float, seed: int) -> tuple[int, bytes, str]:
    """(executions, the input that failed, how): until the time is over or one fails."""
    harness(harness.examples[0])  # What it imports takes longer than many inputs.
    draws, count, end = Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        content = mutated(draws.choice(harness.examples), draws)
        try:
            harness(content)
        except BaseException:
            return count + 1, content, traceback.format_exc()
        count += 1
    return count, b"", ""


def by_coverage(harness: Harness, seconds: float, seed: int, corpus: Path) -> None:
    """The same by atheris, which ends the process; it says so itself on stderr."""
    import atheris

    for number, example in enumerate(harness.examples):
        (corpus / f"example-{number}").write_bytes(example)
    options = [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed + 1}", "-timeout=30"]
    options += [f"-artifact_prefix={corpus}/found-", "-rss_limit_mb=4096", "-max_len=200000"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], harness)
    atheris.Fuzz()


def one(name: str, seconds: float, seed: int, engine: str, folder: Path) -> None:
    """The process of a parser: its findings and its count go into `folder`."""
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=list(PACKAGES)):
            harness = Harness(PARSERS[name])
            for example in harness.examples:
                harness(example)
        by_coverage(harness, seconds, seed, folder)
        return
    harness = Harness(PARSERS[name])
    count, content, said = by_mutations(harness, seconds, seed)
    if said:
        (folder / "found-mutation").write_bytes(content)
        print(said, file=sys.stderr)
    print(f"Done {count} runs", file=sys.stderr)
    harness.close()


def fuzzed(name: str, seconds: float, seed: int, engine: str, findings: Path) -> dict[str, Any]:
    """One line of the record: executions, and what failed."""
    with tempfile.TemporaryDirectory() as place:
        words = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.run", "--only", name]
        words += ["--seconds", f"{seconds}", "--seed", f"{seed}", "--engine", engine]
        try:
            done = subprocess.run(
                [*words, "--place", place],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + GRACE_S,
                check=False,
            )
            said, hung = done.stderr, False
        except subprocess.TimeoutExpired as error:
            said, hung = (error.stderr or b"").decode(errors="replace"), True
        found = []
        for file in sorted(Path(place).glob("found-*")):
            content = file.read_bytes()
            kept = findings / f"{name.replace(' ', '-')}-{hashlib.sha256(content).hexdigest()[:12]}"
            findings.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            found.append(f"{kept}: {_why(said)}")
    if hung:
        found.append(f"{name}: an input took more than {GRACE_S:g} s")
    executions = _executions(said)
    if executions == 0 and not found:
        found.append(f"{name}: did not begin: {said[-300:]}")
    return {"parser": name, "engine": engine, "executions": executions, "found": found}


def _executions(said: str) -> int:
    """What libFuzzer, or the loop above, counted: `Done N runs`, or `#N` of its last line."""
    counts = [0]
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["Done"] and words[1:2] and words[1].isdecimal():
            counts.append(int(words[1]))
        elif words and words[0].startswith("#") and words[0][1:].isdecimal():
            counts.append(int(words[0][1:]))
    return max(counts)


def _why(said: str) -> str:
    lines = [line for line in said.splitlines() if ": " in line and not line.startswith(("#", " "))]
    return next((line for line in reversed(lines) if "Error" in line or "Exc" in line), "")[:200]


def main() -> None:
    """Fuzz all of them, or with --only one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each parser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("atheris", "mutations"))
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--only", choices=list(PARSERS))
    parser.add_argument("--place", type=Path)
    asked = parser.parse_args()
    engine = asked.engine or ("atheris" if find_spec("atheris") else "mutations")
    if asked.place:
        one(asked.only, asked.seconds, asked.seed, engine, asked.place)
        return
    failed = False
    for name in [asked.only] if asked.only else PARSERS:
        line = fuzzed(name, asked.seconds, asked.seed, engine, asked.findings)
        failed |= bool(line["found"])
        print(f"{name}: {line['executions']} executions by {engine}", *line["found"], sep="\n  ")
        if asked.lines:
            with asked.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
