"""The standard AutoAttack on the weights that come with the repository, over all test images.

    python -m benchmarks.methods.weights weights/resnet8-16-cifar10-ard.safetensors --data-dir DIR
    python -m benchmarks.methods.weights          only makes the table of the lines there are

One line for each part of the test images and each file, so what is cut off loses one part at most,
and the same command goes on. The table is in `weights/README.md`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from ard.attacks.budget import recipe_epsilon
from ard.data.datasets import load_dataset
from ard.data.splits import Split
from ard.models.weight_files import load_model
from benchmarks import command
from benchmarks.documents import Maker, Rows, markdown, update
from benchmarks.lines import (
    RESULTS,
    ROOT,
    Line,
    append,
    commit,
    finished,
    machine,
    pack,
    recorded,
    unpack,
)
from benchmarks.methods.report import PARTS
from benchmarks.methods.run import judged
from edge_bench.files.store import sha256_file
from edge_bench.statistics.stats import wilson_interval

LINES, PAGE = RESULTS / "weights.jsonl", ROOT / "weights" / "README.md"
PART = 500
"""Test images of a line."""

NOTHING = "AutoAttack was not measured yet."

ENSEMBLE = ["apgd_ce", "apgd_t", "fab_t", "square"]
"""The standard version of AutoAttack, in its order."""


def main(
    weights: Annotated[list[Path] | None, typer.Argument(help="Files; each part by turns.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    lines: Annotated[Path, typer.Option(help="Where finished parts are written.")] = LINES,
    document: Annotated[Path, typer.Option(help="Document with the table.")] = PAGE,
    attack: Annotated[list[str], typer.Option(help="One after another.")] = ENSEMBLE,
    minutes: Annotated[float | None, typer.Option(help="Start no part after this time.")] = None,
) -> None:
    """Attack WEIGHTS part by part, and fill in the table."""
    torch.set_num_threads(1)
    begin = time.monotonic()
    origin = {"commit": commit(), "machine": machine()}
    for file, first, split in parts(weights or [], data_dir):
        if minutes is not None and time.monotonic() - begin > 60 * minutes:
            break
        name = f"{sha256_file(file)[:12]} {first}"
        if name not in finished(lines):
            append(lines, {"id": name, "first": first} | one(file, split, attack) | origin)
    update(document, maker([*recorded(lines).values()]), check=False)


def parts(weights: list[Path], data_dir: Path) -> Iterator[tuple[Path, int, Split]]:
    """Every first part before every second one: a table cut short compares like with like."""
    loaded = cache(partial(load_dataset, data_dir=data_dir))
    tests = [(file, loaded(load_model(file)[1].dataset).test) for file in weights]
    for first in range(0, max((len(test) for _, test in tests), default=0), PART):
        for file, test in tests:
            if first < len(test):
                yield file, first, test.at(torch.arange(first, min(first + PART, len(test))))


def one(file: Path, split: Split, attacks: list[str]) -> Line:
    """What one file keeps of these images, each attack beside what the earlier ones left."""
    model, card = load_model(file)
    begin = time.perf_counter()
    masks = judged(model, split, attacks, recipe_epsilon(card), "fp32")
    return {
        "file": file.name,
        "weights_sha256": sha256_file(file),
        "masks": {name: pack(mask) for name, mask in masks.items()},
        "images": len(split),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def maker(lines: list[Line]) -> Maker:
    """How the table of the page is made; before the first line it says that there is none."""
    return lambda kind, name: markdown(table(lines)) if lines else NOTHING


def table(lines: list[Line]) -> Rows:
    """A row for each file: what is left after each attack, the last with its 95 % interval."""
    attacks = [name for name in PARTS if all(name in line["masks"] for line in lines)]
    rows = [["file", "first test images", *(PARTS[name] for name in attacks)]]
    for file in dict.fromkeys(line["file"] for line in lines):
        found = [line for line in lines if line["file"] == file]
        images = sum(line["images"] for line in found)
        left = [sum(int(unpack(line, name).sum()) for line in found) for name in attacks]
        cells = [f"{100 * count / images:.1f}" for count in left]
        low, high = wilson_interval(left[-1], images)
        cells[-1] = f"**{cells[-1]}** ({100 * low:.1f} to {100 * high:.1f})"
        rows.append([f"`{file}`", f"{images:,}", *cells])
    return rows


if __name__ == "__main__":
    command.run(main)
