"""The standard AutoAttack on the weights that come with the repository, over all test images.

    python -m benchmarks.methods.weights weights/resnet8-16-cifar10-ard.safetensors --data-dir DIR
    python -m benchmarks.methods.weights          only makes the table of the lines there are

One line for each file, attack of the ensemble and part of the test images, so what is cut off loses
one of these at most, and the same command goes on. An attack has all images before the next one
begins: the first two left nothing to the slow others wherever all were run. Several processes may
share the work if each has files of its own. The table is in `weights/README.md`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from ard.attacks.budget import recipe_epsilon
from ard.attacks.registry import parse_attack
from ard.data.datasets import load_dataset
from ard.data.splits import Split
from ard.evaluation.accuracy import evaluate_attack
from ard.models.weight_files import load_model
from benchmarks import command
from benchmarks.documents import Maker, Rows, markdown, update
from benchmarks.lines import (
    RESULTS,
    ROOT,
    Line,
    append,
    commit,
    machine,
    pack,
    recorded,
    unpack,
)
from benchmarks.methods.tables.attacks import PARTS
from edge_bench.files.store import sha256_file
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import wilson_interval

LINES, PAGE = RESULTS / "weights.jsonl", ROOT / "weights" / "README.md"
PART = 500
"""Test images of a line."""

NOTHING = "AutoAttack was not measured yet."

CHAIN = ["clean", "apgd_ce", "apgd_t", "fab_t", "square"]
"""The standard version of AutoAttack in its order, each attack on what the one before it left."""


def main(
    weights: Annotated[list[Path] | None, typer.Argument(help="Files; each part by turns.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder with the dataset.")] = Path("data"),
    lines: Annotated[Path, typer.Option(help="Where finished parts are written.")] = LINES,
    document: Annotated[Path, typer.Option(help="Document with the table.")] = PAGE,
    minutes: Annotated[float | None, typer.Option(help="Start no part after this time.")] = None,
) -> None:
    """Attack WEIGHTS part by part, and fill in the table."""
    torch.set_num_threads(1)
    begin = time.monotonic()
    origin = {"commit": commit(), "machine": machine()}
    for earlier, attack, file, first, split in parts(weights or [], data_dir):
        if minutes is not None and time.monotonic() - begin > 60 * minutes:
            break
        done = recorded(lines)
        if identifier(file, first, attack) not in done:
            before = done.get(identifier(file, first, earlier))
            append(lines, one(file, first, split, attack, before) | origin)
    update(document, maker([*recorded(lines).values()]), check=False)


def parts(weights: list[Path], data_dir: Path) -> Iterator[tuple[str, str, Path, int, Split]]:
    """Attack by attack, with the one before it, and of each every first part before every second.

    A table that is cut short compares like with like.
    """
    loaded = cache(partial(load_dataset, data_dir=data_dir))
    tests = [(file, loaded(load_model(file)[1].dataset).test) for file in weights]
    for earlier, attack in pairwise(["", *CHAIN]):
        for first in range(0, max((len(test) for _, test in tests), default=0), PART):
            for file, test in tests:
                if first < len(test):
                    index = torch.arange(first, min(first + PART, len(test)))
                    yield earlier, attack, file, first, test.at(index)


def identifier(file: Path, first: int, attack: str) -> str:
    """What the line of a file, part and attack is known by."""
    return f"{sha256_file(file)[:12]} {first} {attack}"


def one(file: Path, first: int, split: Split, attack: str, before: Line | None) -> Line:
    """What one file keeps under one attack of the images that the line `before` left."""
    model, card = load_model(file)
    begin = time.perf_counter()
    mask = evaluate_attack(
        model,
        split,
        None if attack == "clean" else parse_attack(attack, epsilon=recipe_epsilon(card)),
        correct=None if before is None else unpack(before, before["attack"]),
    )
    return {
        "id": identifier(file, first, attack),
        "file": file.name,
        "weights_sha256": sha256_file(file),
        "first": first,
        "attack": attack,
        "masks": {attack: pack(mask)},
        "images": len(split),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def maker(lines: list[Line]) -> Maker:
    """How the table of the page is made; before the first line it says that there is none."""
    return lambda kind, name: markdown(table(lines)) if lines else NOTHING


def table(lines: list[Line]) -> Rows:
    """What is left after each attack, the last with its 95 % interval.

    A row for each file and number of images that some attack has come to: of that many first ones
    stands what all attacks left that have come as far.
    """
    attacks = [name for name in CHAIN if any(line["attack"] == name for line in lines)]
    rows = [["file", "first test images", *(PARTS[name] for name in attacks)]]
    for file in dict.fromkeys(line["file"] for line in lines):
        found = {name: left_of(lines, file, name) for name in attacks}
        for images in sorted({len(mask) for mask in found.values()} - {0}, reverse=True):
            masks = [mask[:images] for mask in found.values() if len(mask) >= images]
            cells = [f"{100 * mask.mean():.1f}" for mask in masks]
            low, high = wilson_interval(int(masks[-1].sum()), images)
            cells[-1] = f"**{cells[-1]}** ({100 * low:.1f} to {100 * high:.1f})"
            cells += [""] * (len(attacks) - len(masks))
            rows.append([f"`{file}`", f"{images:,}", *cells])
    return rows


def left_of(lines: list[Line], file: str, attack: str) -> BoolArray:
    """Which of the first test images, as many as were attacked, a file keeps under an attack."""
    found = {
        line["first"]: line for line in lines if (line["file"], line["attack"]) == (file, attack)
    }
    masks = [np.zeros(0, dtype=np.bool_)]
    while (line := found.get(sum(len(mask) for mask in masks))) is not None:
        masks.append(unpack(line, attack))
    return np.concatenate(masks)


if __name__ == "__main__":
    command.run(main)
