"""How long each command takes to be there, beside what it cannot do without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.speed.finding import Asked, Case, Finding, against
from benchmarks.speed.turns import by_turns, command, python, seconds

TITLE = "Start"
SECONDS = 129.0
ABOUT = """Seconds of a process beside one that imports what it cannot do without. The device's
commands by their `--help`, as a board without torch has them (`python -m edge_bench`), and by the
refusal of a file that is not there; training commands by the refusal of a dataset that is not
there, after which all that they need to begin is imported."""
LEFT = """`-X importtime`, AVX512-VNNI: `--help` is drawn by rich, 155 ms of importing, of which
markdown-it and Pygments take 92; typer brings pydantic, 52 ms; ardx's own modules take 105.
Without pydantic (`'typer<0.29'`) every command starts 50 ms sooner. `export` imports onnx and ONNX
Runtime's quantiser beside torch. What is left out of these rows: a network of torchvision's, and
the first optimiser, bring torch's compiler, which takes longer than torch itself."""

DEVICE = {
    "engine": ("missing.onnx", "--out", "out"),
    "bundle": ("missing.onnx", "--out", "out"),
    "bench": ("missing.onnx", "--out", "out.json"),
    "gate": ("missing.json", "--min-robust-accuracy", "0.5"),
    "compare": ("missing.json", "missing.json"),
    "report": ("missing.json",),
    "attest": ("missing.json", "--out", "out"),
    "verify": ("missing.json",),
    "trend": ("missing",),
}
DATA = ("--data-dir", "missing")
TRAINING = {
    "teach": ("--dataset", "cifar10", *DATA, "--out", "out"),
    "evaluate": ("missing.safetensors", *DATA, "--attacks", "pgd20"),
    "export": ("missing.safetensors", *DATA, "--out", "out.onnx"),
}
MORE_ON_THE_DEVICE, MORE_FOR_TRAINING = 0.3, 0.5
REFUSED = (1, 2, 3)


def cases(asked: Asked) -> dict[str, Case]:
    """One case for the device and one for training: their commands share the floor's turns."""
    if asked.quick:
        return {"on the device": partial(_device, {"gate": DEVICE["gate"]}, asked.turns)}
    return {
        "on the device": partial(_device, DEVICE, asked.turns),
        "training": partial(_training, TRAINING, asked.turns),
    }


def _device(commands: dict[str, tuple[str, ...]], turns: int) -> list[Finding]:
    calls = {}
    for name, refused in commands.items():
        calls[f"{name} --help"] = (*python("-m", "edge_bench", name), "--help")
        calls[f"{name}, refusing"] = (*python("-m", "edge_bench", name), *refused)
    return _timed(calls, "import numpy, onnxruntime", MORE_ON_THE_DEVICE, turns)


def _training(commands: dict[str, tuple[str, ...]], turns: int) -> list[Finding]:
    calls = {
        f"{name}, refusing": (*python("-m", "ard", name), *given)
        for name, given in commands.items()
    }
    return _timed(calls, "import torch", MORE_FOR_TRAINING, turns)


def _timed(calls: dict[str, tuple[str, ...]], floor: str, bar: float, turns: int) -> list[Finding]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(arguments: tuple[str, ...]) -> Callable[[], float]:
            return seconds(lambda: command(list(arguments), folder, (0, *REFUSED)))

        rivals = {floor: run(tuple(python("-c", floor)))}
        rivals |= {what: run(arguments) for what, arguments in calls.items()}
        for each in rivals.values():
            each()  # Files come from the disk once.
        found = by_turns(rivals, turns)
    return [
        against(found[what], found[floor], "more", rival=f"`{what}` over `{floor}`", bar=bar)
        for what in calls
    ]
