"""ONNX files of other tools: judged, attacked by the gradients of their own graphs, quantised.

pip install onnxconverter-common skl2onnx rapidocr-onnxruntime
python -m benchmarks.own.foreign --data-dir data --out docs/results/foreign.md

Six files hold one network, the robust ResNet-8 of weights/, whose torch original is here; two hold
networks that nobody has in torch. Of each: whether every clean image is right or wrong as in a bare
loop over ONNX Runtime; how far the logits of its graph read into torch lie from the runtime's; its
accuracy, and what PGD-10 leaves of it through the file and through the torch original (no more
through the file is as it should be). Test images of CIFAR-10 at 8/255; for rapidocr, drawn lines of
text, upright and turned, at 4/255. Then the file is exported to INT8 for x86, but for the one that
is quantised already, and what comes out is attacked along the gradients of the file. Lines that are
there already are kept, so that the same command goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ard.attacks.agreement import agreement, precision_of
from ard.attacks.registry import parse_attack
from ard.attacks.victims import open_victim
from ard.data.datasets import load_dataset
from ard.data.splits import Dataset, Split, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.exporting.export import export
from ard.models.deployed import Deployed
from ard.models.parents import open_parent
from ard.models.weight_files import load_model
from benchmarks.lines import append, machine, recorded
from benchmarks.own.foreign_files import FILES, Array, Foreign, write_lines
from edge_bench import devices
from edge_bench.core.errors import ArdxError
from edge_bench.devices.generic import has_vnni

WEIGHTS = Path("weights/resnet8-32-cifar10-pgd_at.safetensors")
IMAGES, TRAINING = 100, 1500
KINDS = ("clean", "adversarial")
"""Of images, as the table orders them."""
EPSILON = {"rapidocr": 4 / 255}


def data_for(name: str, data_dir: Path, folder: Path) -> Dataset:
    """A part of CIFAR-10, or the pictures that the file is for."""
    if name == "rapidocr":
        write_lines(folder / "lines", 200)
        return load_dataset(f"imagefolder:{folder / 'lines'}", data_dir)
    whole = load_dataset("cifar10", data_dir)
    count = 10 * TRAINING if name == "skl2onnx" else TRAINING
    return replace(whole, train=take_limit(whole.train, count))


def row(name: str, data_dir: Path, folder: Path) -> dict[str, Any]:
    """What was found out about one file."""
    begin = time.perf_counter()
    model, _ = load_model(WEIGHTS)
    data = data_for(name, data_dir, folder)
    foreign = FILES[name][0](model, data, folder)
    said = replace(foreign.said, dataset=data.name)
    split = take_limit(data.test, IMAGES)
    spec = parse_attack("pgd10", epsilon=EPSILON.get(name, 8 / 255))
    found: dict[str, Any] = {"id": name, "machine": machine(), "vnni": has_vnni(devices.ROOT)}
    with open_victim(foreign.path, output=foreign.output, said=said) as victim:
        network, deployed = victim.own_graph, victim.module
        if network is None or not isinstance(deployed, Deployed):
            return found | {"refused": victim.why_blind}
        precision = precision_of(victim)
        close = agreement(network, deployed, split, epsilon=spec.epsilon, precision=precision)
        clean = evaluate_attack(deployed, split, None)
        robust = evaluate_attack(deployed, split, spec, correct=clean)
    found |= {
        "images": len(split),
        "same_as_bare_loop": int((clean == bare_loop(foreign, split)).sum()),
        "differences": close.differences,
        "tolerance": close.tolerance,
        "clean": int(clean.sum()),
        "robust": int(robust.sum()),
    }
    if foreign.of_torch:
        found["robust_in_torch"] = int(evaluate_attack(model, split, spec).sum())
    if name != "int8":
        found["int8"] = lowered(foreign, data, split, folder / "lowered.onnx", spec.epsilon)
    return found | {"seconds": round(time.perf_counter() - begin, 1)}


def lowered(
    foreign: Foreign, data: Dataset, split: Split, out: Path, epsilon: float
) -> dict[str, Any]:
    """The INT8 artefact: agreement with the file, and what is right, clean and attacked."""
    said = replace(foreign.said, dataset=data.name)
    try:
        parent = open_parent(foreign.path, said, foreign.output)
        done = export(parent, data, out, int8_target="x86", calibration_images=128)
    except ArdxError as error:
        return {"refused": str(error).replace(str(out.parent), ".")}
    with open_victim(out, parent=foreign.path) as victim:
        clean = evaluate_attack(victim.module, split, None)
        spec = parse_attack("pgd10", epsilon=epsilon)
        robust = evaluate_attack(victim.module, split, spec, correct=clean)
    return {
        "agreement": {each.images: each.agreement for each in done.parities},
        "clean": int(clean.sum()),
        "robust": int(robust.sum()),
    }


def bare_loop(foreign: Foreign, split: Split) -> Array:
    """(N,) booleans of the file as it is, by nothing but ONNX Runtime."""
    session = onnxruntime.InferenceSession(foreign.path)
    name = session.get_inputs()[0].name
    output = foreign.output or session.get_outputs()[0].name
    given = foreign.enter(as_float(split.images).numpy())
    size = foreign.batch or len(given)
    parts = [session.run([output], {name: part})[0] for part in np.split(given, len(given) // size)]
    return np.asarray(np.concatenate(parts).argmax(axis=1) == split.labels.numpy())


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each file; accuracies are percent of its images."""
    lines = [
        "| file | what is particular | same as a bare loop | clean | PGD-10 | PGD-10 in torch "
        "| logits apart, clean / adversarial | INT8: agreement, clean / adversarial "
        "| INT8 clean | INT8 PGD-10 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        if "refused" in each:
            lines.append(f"| {each['id']} | {each['refused']} | | | | | | | | |")
            continue
        int8 = each.get("int8", {})
        # By name: the lines keep their keys in the order of the alphabet.
        apart = " / ".join(f"{each['differences'][images]:.1g}" for images in KINDS)
        agreed = int8.get("agreement")
        same = " / ".join(f"{100 * agreed[images]:.1f}" for images in KINDS) if agreed else ""
        cells = [
            each["id"],
            FILES[each["id"]][1],
            f"{each['same_as_bare_loop']} of {each['images']}",
            percent(each, "clean", each["images"]),
            percent(each, "robust", each["images"]),
            percent(each, "robust_in_torch", each["images"]),
            f"{apart} ({each['tolerance']:g} allowed)",
            "**no**" if "refused" in int8 else same or "-",
            percent(int8, "clean", each["images"]),
            percent(int8, "robust", each["images"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def percent(found: dict[str, Any], key: str, images: int) -> str:
    return f"{100 * found[key] / images:.1f}" if key in found else "-"


def document(rows: list[dict[str, Any]], lines: Path) -> str:
    _, command, about = (__doc__ or "").strip().split("\n\n")
    machines = "; ".join(sorted({each["machine"] for each in rows}))
    vnni = {True: "with", False: "without"}
    kinds = sorted({vnni.get(each["vnni"], "perhaps with") for each in rows})
    refused = [
        f"- {each['id']}, INT8: {each['int8']['refused']}"
        for each in rows
        if "refused" in each.get("int8", {})
    ]
    return (
        "# ONNX files of other tools\n\n"
        f"{about}\n\n```sh\n{command}\n```\n\n"
        f"Lines: [{lines.name}]({lines.name}), on {machines} ({' and '.join(kinds)} AVX512-VNNI), "
        f"ONNX Runtime {onnxruntime.__version__}. Accuracies in percent; a hundred images give a "
        "95 % interval of some 10 points to each side, and differences between columns are of the "
        f"same images. Logits lie apart as a fraction of their spread.\n\n{table(rows)}"
        + ("\n## Refused\n\n" + "\n".join(refused) + "\n" if refused else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds CIFAR-10")
    parser.add_argument("--out", type=Path, required=True, help="the table, .md; lines beside it")
    parser.add_argument("--only", nargs="*", default=list(FILES), help="some files alone")
    asked = parser.parse_args()
    lines = asked.out.with_suffix(".jsonl")
    for name in asked.only:
        if name not in recorded(lines):
            with tempfile.TemporaryDirectory() as folder:
                append(lines, row(name, asked.data_dir, Path(folder)))
            print(name, flush=True)
        rows = recorded(lines)
        ordered = [rows[name] for name in FILES if name in rows]
        asked.out.write_text(document(ordered, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
