"""Small networks of other people's families: trained, exported, INT8; keep a table of them.

python -m benchmarks.own.table --data-dir data --out docs/results/own.md

Adversarial training (PGD-AT, one step, epsilon 2/255) from random weights for six epochs on 600
pictures of two classes of CIFAR-10, airplane and frog, at 32x32 pixels; then export to fp32 and to
INT8 for x86 and for arm (the file made for arm runs on this machine's processor). Accuracies and
agreement with torch are on held-out pictures, clean, and as PGD-10 moved them against the network
in torch at 2/255: a transfer for the artefacts, so an upper bound of their robust accuracy. So
short a training says which networks go through the chain, not how good any of them is. Where torch
itself is at chance (50), agreement is nearly free and the figures show no more than that the files
are written and run. A network that fails is in the table with the sentence that it ended in. Lines
that are there already are kept, so that the same command goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, Split
from ard.exporting.export import export
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from benchmarks.lines import append, machine, recorded
from benchmarks.own import ten_minutes
from edge_bench.core.errors import ArdxError

NETWORKS = {
    "benchmarks.own.networks:smooth_max": "own layer",
    "benchmarks.own.networks:group_norm": "GroupNorm, SiLU, dropout",
    "squeezenet1_1": "no normalisation, dropout",
    "shufflenet_v2_x0_5": "channels shuffled",
    "mobilenet_v3_small": "squeeze-and-excite, hard swish",
    "timm:mobilenetv4_conv_small_035": "inverted bottlenecks",
    "timm:convnext_atto": "LayerNorm, GELU",
    "timm:vit_tiny_patch16_224": "attention",
    "timm:regnetx_002": "grouped convolutions",
    "timm:tf_efficientnet_lite0": "padding as TensorFlow's",
    "timm:regnety_002": "squeeze-and-excite",
    "timm:repvgg_a0": "branches that can be folded",
    "timm:ghostnet_050": "ghost features",
}
"""Architectures, and what each is there for."""

ARTEFACTS = {"fp32": None, "INT8 x86": "x86", "INT8 arm": "arm"}
AIRPLANE, FROG = 0, 6
PER_CLASS, TEST_PER_CLASS = 300, 50


def two_classes(data_dir: Path) -> Dataset:
    """Airplane (0) and frog (1), the first pictures of each."""
    whole = load_dataset("cifar10", data_dir)

    def part(split: Split, count: int) -> Split:
        found = [torch.nonzero(split.labels == label)[:count, 0] for label in (AIRPLANE, FROG)]
        order = torch.stack(found, dim=1).flatten()
        return Split(split.images[order], (split.labels[order] == FROG).long())

    return Dataset(
        name="airplane-frog",
        train=part(whole.train, PER_CLASS),
        test=part(whole.test, TEST_PER_CLASS),
        classes=2,
        flips=True,
    )


def row(name: str, data: Dataset, folder: Path) -> dict[str, Any]:
    """What became of one network."""
    begin = time.perf_counter()
    config = TrainConfig(
        dataset=data.name,
        architecture=name,
        method="pgd_at",
        epsilon=2 / 255,
        step_size=2 / 255,
        inner_steps=1,
        epochs=6,
        batch_size=32,
        learning_rate=0.02,
        ema_decay=0.9,
        clip_norm=1.0,
        validate_every=3,
    )
    found: dict[str, Any] = {"id": name, "machine": machine()}
    try:
        weights = learn(config, data, None, folder / "m.safetensors").weights
    except ArdxError as error:
        return found | {"training": str(error)}
    for artefact, target in ARTEFACTS.items():
        found[artefact] = exported(weights, data, folder, target)
    return found | {"seconds": round(time.perf_counter() - begin, 1)}


def exported(weights: Path, data: Dataset, folder: Path, target: str | None) -> dict[str, Any]:
    """Agreement and accuracies of one artefact, held to export's own bounds, or its refusal."""
    out = folder / f"{target}.onnx"
    try:
        done = export(weights, data, out, int8_target=target, calibration_images=256)
    except ArdxError as error:
        return {"refused": str(error).replace(str(folder), ".")}
    return {
        each.images: {
            "samples": each.samples,
            "agreement": each.agreement,
            "torch": each.torch_accuracy,
            "artefact": each.artifact_accuracy,
        }
        for each in done.parities
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each network; cells of artefacts are agreement and accuracy, clean / moved."""
    heads = " | ".join(ARTEFACTS)
    lines = [f"| network | what it has | torch | {heads} |", "|---|---|---|---|---|---|"]
    for each in rows:
        fp32 = each.get("fp32", {})
        cells = ["**no**" if "training" in each else pair(fp32, "torch") + remark(fp32)]
        for artefact in ARTEFACTS:
            found = each.get(artefact, {})
            good = "clean" in found
            cells.append(
                f"{pair(found, 'agreement')}; {pair(found, 'artefact')}" if good else "**no**"
            )
        lines.append(f"| `{each['id']}` | {NETWORKS[each['id']]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def remark(found: dict[str, Any]) -> str:
    """Whether two classes are told apart no better than by chance, within what so few show."""
    near = "clean" in found and found["clean"]["torch"] <= 0.5 + found["clean"]["samples"] ** -0.5
    return ", chance" if near else ""


def pair(found: dict[str, Any], key: str) -> str:
    """Clean / moved, in percent."""
    kinds = ("clean", "adversarial")
    return " / ".join(f"{100 * found[kind][key]:.1f}" if kind in found else "-" for kind in kinds)


def failures(rows: list[dict[str, Any]]) -> str:
    """The sentences of what did not come through."""
    found = [
        f"- `{each['id']}`, training: {each['training']}" for each in rows if "training" in each
    ]
    found += [
        f"- `{each['id']}`, {artefact}: {each[artefact]['refused']}"
        for each in rows
        for artefact in ARTEFACTS
        if "refused" in each.get(artefact, {})
    ]
    return "\n".join(found) if found else "Nothing was refused."


def document(rows: list[dict[str, Any]], lines: Path) -> str:
    left = [name for name in NETWORKS if name not in {each["id"] for each in rows}]
    _, command, about = (__doc__ or "").strip().split("\n\n")
    samples = rows[0].get("fp32", {}).get("clean", {}).get("samples", "-") if rows else "-"
    machines = "; ".join(sorted({each["machine"] for each in rows}))
    return (
        "# Networks of one's own through the chain\n\n"
        f"{about}\n\n```sh\n{command}\n```\n\n"
        f"Lines: [{lines.name}]({lines.name}), on {machines}. Percent of {samples} pictures, clean "
        "/ adversarial; of an artefact its agreement with torch, then its accuracy.\n\n"
        f"{table(rows)}\n## Refused\n\n{failures(rows)}\n"
        + (f"\n## Not run yet\n\n{', '.join(f'`{name}`' for name in left)}\n" if left else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds CIFAR-10")
    parser.add_argument("--out", type=Path, required=True, help="the table, .md; lines beside it")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), help="some networks alone")
    asked = parser.parse_args()
    lines = asked.out.with_suffix(".jsonl")
    if lines.exists():
        write(asked.out, lines)
    data = two_classes(asked.data_dir)
    for name in asked.only:
        if name not in recorded(lines):
            with tempfile.TemporaryDirectory() as folder:
                append(lines, row(name, data, Path(folder)))
            print(name, flush=True)
        write(asked.out, lines)


def write(out: Path, lines: Path) -> None:
    """The document of the lines so far."""
    rows = recorded(lines)
    ordered = [rows[name] for name in NETWORKS if name in rows]
    told = document(ordered, lines) + ten_minutes.section(out.with_name(ten_minutes.LINES))
    out.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
