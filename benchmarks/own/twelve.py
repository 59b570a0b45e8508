"""Twelve families of networks, trained briefly, exported and quantised; keep a table of it.

python benchmarks/own/twelve.py --data ../shared/data --rows docs/results/own.jsonl \\
  --out docs/results/own.md

One epoch of adversarial training (L-inf 4/255, one inner step) from random weights on 1,800 real
images of CIFAR-10 at 32x32 pixels; then INT8 for x86 and arm, each compared with torch on 200
held-out images, clean and under PGD-10 made on the float network. Both are computed on this
machine: arm by its rules of rounding, not on a board. So short a training teaches little: the
table says what goes the whole way and how far INT8 follows, not how accurate a family becomes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, take_limit
from ard.exporting.export import export
from ard.learning.config import TrainConfig
from ard.learning.learn import learn
from edge_bench.core.errors import ArdxError

FAMILIES = {
    "MobileNetV3": "timm:mobilenetv3_small_050",
    "EfficientNet-lite": "timm:tf_efficientnet_lite0",
    "RegNet": "timm:regnetx_002",
    "ShuffleNetV2": "shufflenet_v2_x0_5",
    "SqueezeNet": "squeezenet1_1",
    "ConvNeXt": "timm:convnext_atto",
    "MobileNetV4": "timm:mobilenetv4_conv_small_035",
    "vision transformer": "timm:test_vit2",
    "RepVGG": "timm:repvgg_a0",
    "GhostNet": "timm:ghostnet_050",
    "MobileViT": "timm:mobilevit_xxs",
    "own module, GroupNorm, own layer": "benchmarks.own.small:build",
}
TARGETS = ("x86", "arm")


def row(family: str, architecture: str, data: Dataset) -> dict[str, Any]:
    """What became of one family."""
    begin = time.perf_counter()
    found: dict[str, Any] = {"family": family, "architecture": architecture}
    config = TrainConfig(
        dataset=data.name,
        architecture=architecture,
        method="pgd_at",
        epsilon=4 / 255,
        step_size=4 / 255,
        inner_steps=1,
        epochs=1,
        batch_size=32,
        learning_rate=0.02,
        clip_norm=1.0,
        ema_decay=0.9,
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            weights = learn(config, data, None, Path(folder) / "t" / "teacher.safetensors").weights
        except ArdxError as error:
            return found | {"failed": str(error)}
        for target in TARGETS:
            out = Path(folder) / f"{target}.onnx"
            try:
                made = export(weights, data, out, int8_target=target, least_agreement=0.0)
            except ArdxError as error:
                found[target] = {"failed": str(error)}
                continue
            found[target] = {
                each.images: {
                    "agreement": each.agreement,
                    "torch": each.torch_accuracy,
                    "int8": each.artifact_accuracy,
                    "samples": each.samples,
                }
                for each in made.parities
            } | {"bytes": out.stat().st_size}
    return found | {"seconds": round(time.perf_counter() - begin, 1)}


def page(rows: list[dict[str, Any]]) -> str:
    """The table of all rows."""
    lines = [
        "| family | `--arch` | clean, robust: float | target | agreement clean, robust "
        "| clean, robust: INT8 |",
        "|---|---|---|---|---|---|",
    ]
    for each in rows:
        name = f"| {each['family']} | `{each['architecture']}` "
        if "failed" in each:
            lines.append(f"{name}| failed: {each['failed']} | | | |")
            continue
        for target in TARGETS:
            lines.append(name + _cells(target, each[target]))
    return "\n".join(lines) + "\n"


def _cells(target: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| | {target} | failed: {found['failed']} | |"
    kinds = [found["clean"], found["adversarial"]]

    def pair(key: str) -> str:
        return ", ".join(f"{100 * kind[key]:.1f} %" for kind in kinds)

    return f"| {pair('torch')} | {target} | {pair('agreement')} | {pair('int8')} |"


def main() -> None:
    """Run the families that have no line yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    whole = load_dataset("cifar10", asked.data)
    data = replace(
        whole, train=take_limit(whole.train, asked.images), test=take_limit(whole.test, 256)
    )
    rows = (
        [json.loads(line) for line in asked.rows.read_text().splitlines()]
        if (asked.rows.exists())
        else []
    )
    done = {each["architecture"] for each in rows}
    for family, architecture in FAMILIES.items():
        if architecture not in done:
            rows.append(row(family, architecture, data))
            asked.rows.write_text("".join(json.dumps(each) + "\n" for each in rows))
        print(rows[-1]["family"], flush=True)
    text = asked.out.read_text() if asked.out.exists() else f"# Own models\n\n{MARK}\n"
    asked.out.write_text(text.partition(MARK)[0] + f"{MARK}\n\n{page(rows)}")


MARK = "<!-- the table is written by benchmarks/own/twelve.py -->"

if __name__ == "__main__":
    main()
