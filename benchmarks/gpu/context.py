"""What the steps of the GPU hour are given, and the device that they run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ard.data.splits import Dataset
from benchmarks.gpu.pack import read
from benchmarks.lines import Line, append
from benchmarks.methods.passes import Setting, noise

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = Setting("resnet8", "resnet8", side=32, classes=10, inner_steps=2, batch=16)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a step is given."""

    data: Path | None
    teacher: Path | None
    lines: Path
    work: Path
    dry_run: bool
    minutes: float

    def options(self, minutes: float) -> list[str]:
        """The same as options of `run`, with so many minutes."""
        given = {"--data": self.data, "--teacher": self.teacher, "--lines": self.lines}
        words = [word for name, value in given.items() if value for word in (name, str(value))]
        words += ["--work", str(self.work), "--minutes", f"{minutes:.2f}"]
        return [*words, *(["--dry-run"] if self.dry_run else [])]

    def tell(self, step: str, **found: Any) -> None:
        """Write a finding."""
        line: Line = {"step": step, "device": device_name(), **found}
        append(self.lines, line)

    def dataset(self) -> Dataset:
        """The packed one, or noise."""
        return little() if self.data is None else read(self.data)


def device_name() -> str:
    """The card, or the processor's share of the work."""
    return torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def little() -> Dataset:
    """Noise, and so little of it that every step is done in seconds."""
    split = noise(SMALL).train.part(0, 200)
    return Dataset(name="noise", train=split, test=split, classes=SMALL.classes, flips=True)
