"""The commands that attack a model: `evaluate` and `attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ard import options as o
from edge_bench.console import print_json, print_table, progress, warn
from edge_bench.spec import parse_epsilon


def evaluate(
    model: Annotated[Path, typer.Argument(help="Weights written by teach or distill.")],
    attacks: Annotated[
        str, typer.Option(help="clean, fgsm, pgdN, cwN, autoattack, with commas.")
    ] = "clean,fgsm,pgd20,cw30",
    epsilon: o.OptionalEpsilon = None,
    step_size: o.StepSize = None,
    restarts: Annotated[int, typer.Option(help="Random starts of pgdN and cwN.", min=1)] = 1,
    limit: o.Limit = None,
    out: Annotated[Path | None, typer.Option(help="JSON with per-sample masks.")] = None,
    dataset: o.OptionalDatasetName = None,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    torch_device: o.TorchDevice = "auto",
    seed: o.Seed = 0,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """White-box robust accuracy of a torch model on test images, in fp32.

    Example: ardx evaluate runs/student/student.safetensors --attacks clean,pgd20,autoattack
    """
    from ard.attacks import parse_attack
    from ard.checkpoint import load_model
    from ard.data import take_limit
    from ard.datasets import load_dataset
    from ard.evaluate import evaluate_all
    from ard.stages import check_dataset, recipe_epsilon
    from edge_bench.metrics import accuracy, encode_mask
    from edge_bench.stats import wilson_interval
    from edge_bench.store import refuse_existing_file, write_json

    if out is not None:
        refuse_existing_file(out, force)
    network, card = load_model(model)
    budget = parse_epsilon(epsilon) if epsilon else recipe_epsilon(card)
    names = [name.strip() for name in attacks.split(",")]
    specs = [
        parse_attack(
            name,
            epsilon=budget,
            step_size=o.resolve_step_size(step_size, budget),
            restarts=restarts,
            seed=seed,
        )
        for name in names
        if name != "clean"
    ]
    data = load_dataset(dataset or card.dataset, data_dir, download=download, image_size=image_size)
    check_dataset(model, card, data)
    split = take_limit(data.test, limit)
    device = o.resolve_torch_device(torch_device)
    found = evaluate_all(network.to(device), split, specs, torch_device=device, monitor=progress)
    masks = {name: encode_mask(mask) for name, mask in found.items()}
    summary: dict[str, Any] = {
        "model": str(model),
        "dataset": data.name,
        "threat": "white-box",
        "epsilon": budget,
        "samples": len(split),
        "accuracy": {name: accuracy(mask) for name, mask in masks.items()},
    }
    if out is not None:
        write_json(out, {"schema_version": 1, **summary, "masks": masks}, force)
    if json_summary:
        print_json(summary)
        return
    rows = []
    for name, mask in masks.items():
        low, high = wilson_interval(mask.count("1"), len(mask))
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        rows.append([name, f"{100 * accuracy(mask):.1f} %", interval, str(len(mask))])
    title = f"{model.name} on {data.name}, white-box, L-inf {o.render_epsilon(budget)}"
    print_table(title, ["attack", "accuracy", "95% interval", "n"], rows)


def attack(
    model: Annotated[Path, typer.Argument(help="Weights written by teach or distill.")],
    out: o.Out,
    attack_name: Annotated[
        str | None,
        typer.Option(
            "--attack",
            help="fgsm, pgdN, cwN or autoattack (pgd20); with --import, what to call it.",
        ),
    ] = None,
    epsilon: o.OptionalEpsilon = None,
    step_size: o.StepSize = None,
    restarts: Annotated[int, typer.Option(help="Random starts of pgdN and cwN.", min=1)] = 1,
    off_grid: Annotated[
        bool, typer.Option("--off-grid", help="Keep float images instead of 8-bit levels.")
    ] = False,
    import_file: o.Import = None,
    import_key: o.ImportKey = None,
    norm: o.ImportNorm = None,
    images: o.Images = None,
    limit: o.Limit = None,
    dataset: o.OptionalDatasetName = None,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    torch_device: o.TorchDevice = "auto",
    seed: o.Seed = 0,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """Craft an adversarial set, to be replayed on a device, or import one.

    A run that was stopped goes on where it was when the same command is given again.

    Example: ardx attack runs/student/student.safetensors --attack pgd20 --out sets/pgd20
    """
    from ard.attacks import parse_attack
    from ard.checkpoint import load_model
    from ard.craft import craft_set, grid_radius
    from ard.data import take_limit
    from ard.datasets import load_dataset
    from ard.foreign import parse_import_keys
    from ard.importing import import_set, imported_spec
    from ard.sources import Source, SplitSource, open_images
    from ard.stages import check_dataset, recipe_epsilon
    from edge_bench.store import refuse_existing, sha256_file

    refuse_existing(out, force)
    network, card = load_model(model)
    if import_file is not None:
        beside = {"--images": images, "--dataset": dataset, "--image-size": image_size}
        beside |= {"--limit": limit, "--step-size": step_size, "--off-grid": off_grid or None}
        o.refuse_beside("--import takes its images and their budget as they are", beside)
        spec = imported_spec(attack_name, epsilon, norm, card)
        device = o.resolve_torch_device(torch_device)
        with progress(f"import {import_file.name}") as report_progress:
            import_set(
                network.to(device),
                card,
                import_file,
                spec,
                out,
                model_sha256=sha256_file(model),
                keys=parse_import_keys(import_key),
                force=force,
                torch_device=device,
                report_progress=report_progress,
            )
        _print_set(out, model, json_summary)
        return
    o.refuse_beside("only --import reads it", {"--import-key": import_key, "--norm": norm})
    attack_name = attack_name or "pgd20"
    budget = parse_epsilon(epsilon) if epsilon else recipe_epsilon(card)
    spec = parse_attack(
        attack_name,
        epsilon=budget,
        step_size=o.resolve_step_size(step_size, budget),
        restarts=restarts,
        seed=seed,
    )
    if images is not None:
        o.refuse_beside(f"--images {images} is attacked instead", {"--dataset": dataset})
        clean: Source = open_images(images, card, image_size=image_size, limit=limit)
    else:
        data = load_dataset(
            dataset or card.dataset, data_dir, download=download, image_size=image_size
        )
        check_dataset(model, card, data)
        clean = SplitSource(take_limit(data.test, limit), data.name, data.classes)
    device = o.resolve_torch_device(torch_device)
    if not off_grid and abs(budget * 255 - grid_radius(budget)) > 1e-6:
        warn(
            f"--epsilon {budget:g} is {budget * 255:.2f} steps of the 8-bit grid; "
            f"{grid_radius(budget)} are used (--off-grid keeps them all)"
        )
    with progress(f"attack {attack_name}") as report_progress:
        craft_set(
            network.to(device),
            clean,
            spec,
            out,
            source=model,
            source_sha256=sha256_file(model),
            on_grid=not off_grid,
            force=force,
            torch_device=device,
            report_progress=report_progress,
        )
    _print_set(out, model, json_summary)


def _print_set(out: Path, model: Path, json_summary: bool) -> None:
    """What a set holds, read back from the disk with every check that a replay makes."""
    from ard.attacks import attack_label
    from edge_bench.sets import open_set

    found = open_set(out)
    manifest = found.manifest
    robust = 1 - float(found.source_success.mean())
    if json_summary:
        print_json(
            {
                "set": str(out),
                "samples": manifest.samples,
                "on_grid": manifest.on_grid,
                "source_sha256": manifest.source_sha256,
                "source_accuracy": robust,
            }
        )
        return
    norm = {"linf": "L-inf", "l2": "L2"}[manifest.attack.norm]
    budget = f"{norm} {o.render_epsilon(manifest.attack.epsilon)}"
    print(
        f"{out}: {manifest.samples} images, {attack_label(manifest.attack)}, {budget}; "
        f"{model.name} keeps {100 * robust:.1f} % on them"
    )
