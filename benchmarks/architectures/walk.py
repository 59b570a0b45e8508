"""Train, write, load and export every architecture that --arch accepts; keep a table of it.

python benchmarks/architectures/walk.py --out docs/results/architectures.md \\
  --rows docs/results/architectures.jsonl

One step of adversarial training on 16 generated images of 3 channels and two classes, at 32x32
pixels or the smallest size above that the network takes; then the weights are written, loaded and
exported to ONNX, whose classes `export` compares with torch's on 32 clean and 32 adversarial
images. The difference is the largest of any logit, relative to the largest logit. Lines that are
there already are kept, so that the same command goes on.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torchvision import models as torchvision_models

from ard.data.splits import Dataset, Split, as_float
from ard.exporting.export import export
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from ard.models.architectures import ARCHITECTURES
from ard.models.sizes import shapes_of, smallest_size
from ard.models.weight_files import load_model
from edge_bench.core.errors import ArdxError
from edge_bench.devices.generic import read_text

CHANNELS = 3
LEAST_SIDE = 32
BATCH = 16
COPIES = 14
"""Of the weights, at once: student, twin, average, gradients, momentum, the best so far, what a
checkpoint gathers of them, and the graph while it is exported."""


def names() -> list[str]:
    """Every architecture, torchvision's last."""
    theirs = torchvision_models.list_models(module=torchvision_models)
    return [*ARCHITECTURES, *(name for name in theirs if name not in ARCHITECTURES)]


def pictures(side: int) -> Dataset:
    """320 pictures of noise for training, dark (class 0) or bright (class 1), and 16 for a test."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 2
        noise = torch.randint(0, 156, (count, CHANNELS, side, side), generator=generator)
        return Split((noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels)

    return Dataset(name="noise", train=split(320), test=split(16), classes=2, flips=False)


def row(name: str) -> dict[str, Any]:
    """What became of one architecture."""
    begin = time.perf_counter()
    smallest = smallest_size(name, CHANNELS)
    above = smallest
    if smallest is not None and smallest < LEAST_SIDE:
        above = smallest_size(name, CHANNELS, LEAST_SIDE - 1)
    found: dict[str, Any] = {"architecture": name, "smallest": smallest, "side": above}
    assert above is not None
    parameters = count_parameters(name, above)
    found["parameters"] = parameters
    needed, free = COPIES * 4 * parameters, psutil.virtual_memory().available
    if needed > free:
        return found | {"skipped": f"needs {needed / 2**30:.0f} GiB, {free / 2**30:.0f} are free"}
    with tempfile.TemporaryDirectory() as folder:
        found |= trained_and_exported(name, pictures(above), Path(folder))
    return found | {"seconds": round(time.perf_counter() - begin, 1)}


def count_parameters(name: str, side: int) -> int:
    model = shapes_of(name, (CHANNELS, side, side), classes=2)
    return sum(parameter.numel() for parameter in model.parameters())


def trained_and_exported(name: str, data: Dataset, folder: Path) -> dict[str, Any]:
    config = TrainConfig(
        dataset=data.name,
        architecture=name,
        method="pgd_at",
        epsilon=8 / 255,
        step_size=8 / 255,
        inner_steps=1,
        epochs=1,
        batch_size=BATCH,
        train_fraction=BATCH / 288,
        learning_rate=0.01,
        precision="fp32",
    )
    found: dict[str, Any] = {"trained": False, "exported": False}
    try:
        learned = learn(config, data, None, folder / "m.safetensors")
        found["trained"] = True
        exported = export(learned.weights, data, folder / "m.onnx", least_agreement=0)
    except ArdxError as error:
        return found | {"refused": str(error)}
    except Exception as error:
        # This is what the walk is for: nothing may end this way.
        return found | {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    found["exported"] = True
    with torch.no_grad():
        largest = float(load_model(learned.weights)[0](as_float(data.test.images)).abs().max())
    for parity in exported.parities:
        found[f"agreement {parity.images}"] = parity.agreement
        found[f"difference {parity.images}"] = parity.largest_difference / largest
    return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| architecture | parameters | smallest | tried at | trained | exported | agreement, clean "
        "| adversarial | difference |",
        "|---|---:|---:|---:|---|---|---:|---:|---:|",
    ]
    for each in rows:
        note = each.get("skipped") or each.get("refused") or each.get("failed") or ""
        difference = max(
            (each[key] for key in each if key.startswith("difference")), default=float("nan")
        )
        lines.append(
            f"| {each['architecture']} | {each['parameters'] / 1e6:.1f} M | {each['smallest']} | "
            f"{each['side']} | {word(each, 'trained')} | {word(each, 'exported')} {note} | "
            f"{percent(each, 'agreement clean')} | {percent(each, 'agreement adversarial')} | "
            f"{difference:.1e} |".replace("nan", "-")
        )
    return "\n".join(lines) + "\n"


def word(row: dict[str, Any], key: str) -> str:
    return {True: "yes", False: "**no**", None: "-"}[row.get(key)]


def percent(row: dict[str, Any], key: str) -> str:
    return f"{100 * row[key]:.1f} %" if key in row else "-"


def document(rows: list[dict[str, Any]], rows_file: Path) -> str:
    walked = {each["architecture"] for each in rows}
    left = [name for name in names() if name not in walked]
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in (read_text(Path("/proc/cpuinfo")) or "").splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    _, command, about = (__doc__ or "").strip().split("\n\n")
    return (
        "# Every architecture, trained one step, written, loaded and exported\n\n"
        f"{about}\n\nLines: [{rows_file.name}]({rows_file.name}). Made on {cpu}, one thread, torch "
        f"{torch.__version__}, by\n\n```sh\n{command}\n```\n\nSizes are sides of square images in "
        "pixels. A network whose weights "
        "depend on the size takes certain sizes above the smallest only.\n\n"
        + table(rows)
        + (f"\nNot walked yet: {', '.join(left)}.\n" if left else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the table, .md")
    parser.add_argument("--rows", type=Path, required=True, help="its lines, .jsonl")
    parser.add_argument("--only", nargs="*", default=names(), help="some architectures alone")
    asked = parser.parse_args()
    text = asked.rows.read_text(encoding="utf-8") if asked.rows.exists() else ""
    rows = {each["architecture"]: each for each in map(json.loads, text.splitlines())}
    for name in asked.only:
        if name in rows:
            continue
        rows[name] = row(name)
        print(json.dumps(rows[name]), flush=True)
        with asked.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[name]) + "\n")
        gc.collect()
    ordered = [rows[name] for name in names() if name in rows]
    asked.out.write_text(document(ordered, asked.rows), encoding="utf-8")


if __name__ == "__main__":
    main()
