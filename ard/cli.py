"""`ardx`: the root command line. torch is imported inside command bodies only, so that the
device's commands and `--help` work, and start fast, where there is none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ard import options as o
from edge_bench import __version__
from edge_bench import cli as edge_cli
from edge_bench.console import Stages, print_json, print_table, progress
from edge_bench.errors import CapabilityError, InputError
from edge_bench.spec import parse_epsilon

if TYPE_CHECKING:
    from ard.data import Dataset
    from ard.stages import Learned
    from ard.train import TrainConfig

app = typer.Typer(
    cls=Stages,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Small vision models that stay accurate under attack after compression, on the board "
    "where they run.\n\nteach -> distill -> evaluate -> export -> attack -> bench -> gate",
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Handle the options that belong to no stage."""
    if version:
        print(f"ardx {__version__}")
        raise typer.Exit


@app.command()
def teach(
    dataset: o.DatasetName,
    arch: Annotated[str, typer.Option(help="Architecture, such as resnet18 or resnet8:32.")],
    out: o.Out,
    method: Annotated[str, typer.Option(help="pgd_at, trades, or natural (no defence).")] = "trades",
    epsilon: o.Epsilon = "8/255",
    step_size: o.StepSize = None,
    inner_steps: o.InnerSteps = 10,
    inner: o.Inner = None,
    beta: Annotated[float, typer.Option(help="Robust weight of TRADES.")] = 6.0,
    epochs: o.Epochs = 30,
    minutes: o.Minutes = None,
    batch_size: o.BatchSize = 128,
    learning_rate: o.LearningRate = 0.1,
    weight_decay: o.WeightDecay = 5e-4,
    ema_decay: o.EmaDecay = 0.995,
    train_fraction: o.TrainFraction = 1.0,
    validate_every: o.ValidateEvery = 1,
    precision: o.Precision = "fp32",
    torch_device: o.TorchDevice = "auto",
    seed: o.Seed = 0,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resume: o.Resume = False,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """Train a teacher adversarially; writes OUT/teacher.safetensors.

    Example: ardx teach --dataset cifar10 --arch resnet18 --method trades --out runs/teacher
    """
    budget = parse_epsilon(epsilon)
    from ard.data import load_dataset
    from ard.losses import LossOptions, method_named
    from ard.stages import learn
    from ard.train import TrainConfig

    method_named(method, distils=False)
    config = TrainConfig(
        dataset=dataset,
        architecture=arch,
        method=method,
        epsilon=budget,
        step_size=_step_size(step_size, budget),
        inner_steps=inner_steps,
        inner=inner,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        ema_decay=ema_decay,
        train_fraction=train_fraction,
        seed=seed,
        precision=precision,
        validate_every=validate_every,
        loss=LossOptions(beta=beta),
    )
    data = load_dataset(dataset, data_dir, download=download, image_size=image_size)
    with progress("teach") as report_progress:
        learned = learn(
            config,
            data,
            None,
            out / "teacher.safetensors",
            minutes=minutes,
            resume=resume,
            force=force,
            torch_device=_torch_device(torch_device),
            report_progress=report_progress,
        )
    _print_learned(learned, json_summary)


@app.command()
def distill(
    dataset: o.DatasetName,
    teacher: Annotated[Path, typer.Option(help="Teacher's weights: ours, or a published .pt.")],
    student: Annotated[str, typer.Option(help="Architecture, such as mobilenet_v2 or resnet8.")],
    out: o.Out,
    method: Annotated[str, typer.Option(help="ard.")] = "ard",
    teacher_arch: Annotated[
        str | None, typer.Option(help="Architecture of a published checkpoint.")
    ] = None,
    epsilon: o.Epsilon = "8/255",
    step_size: o.StepSize = None,
    inner_steps: o.InnerSteps = 10,
    inner: o.Inner = None,
    agreement: Annotated[
        str, typer.Option(help="kendall or spearman.", rich_help_panel=o.Ranking)
    ] = "kendall",
    score_space: Annotated[
        str, typer.Option(help="zscore, logits or probabilities.", rich_help_panel=o.Ranking)
    ] = "zscore",
    k: Annotated[
        float, typer.Option(help="Steepness of the soft comparison.", rich_help_panel=o.Ranking)
    ] = 2.0,
    normalisation: Annotated[
        str, typer.Option(help="Of kendall: pairs or cosine.", rich_help_panel=o.Ranking)
    ] = "pairs",
    hard_teacher: Annotated[
        bool, typer.Option(help="Compare the teacher by sign.", rich_help_panel=o.Ranking)
    ] = False,
    teacher_input: Annotated[
        str, typer.Option(help="adversarial or clean.", rich_help_panel=o.Ranking)
    ] = "adversarial",
    weight_class: Annotated[
        float, typer.Option(help="Weight of the class level.", rich_help_panel=o.Ranking)
    ] = 1.0,
    weight_sample: Annotated[
        float, typer.Option(help="Weight of the sample level.", rich_help_panel=o.Ranking)
    ] = 1.0,
    weight_discrepancy: Annotated[
        float, typer.Option(help="Weight of the discrepancy level.", rich_help_panel=o.Ranking)
    ] = 0.5,
    anchor: Annotated[
        str, typer.Option(help="What fixes the scale: rslad or ce.", rich_help_panel=o.Ranking)
    ] = "rslad",
    epochs: o.Epochs = 30,
    minutes: o.Minutes = None,
    batch_size: o.BatchSize = 128,
    learning_rate: o.LearningRate = 0.1,
    weight_decay: o.WeightDecay = 5e-4,
    ema_decay: o.EmaDecay = 0.995,
    train_fraction: o.TrainFraction = 1.0,
    validate_every: o.ValidateEvery = 1,
    precision: o.Precision = "fp32",
    torch_device: o.TorchDevice = "auto",
    seed: o.Seed = 0,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resume: o.Resume = False,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """Distil a robust student from a robust teacher; writes OUT/student.safetensors.

    Example: ardx distill --dataset cifar10 --teacher runs/teacher/teacher.safetensors
    --student mobilenet_v2 --out runs/student
    """
    budget = parse_epsilon(epsilon)
    from ard.data import load_dataset
    from ard.losses import LossOptions, method_named
    from ard.ranking import RankingOptions
    from ard.stages import learn, load_teacher
    from ard.train import TrainConfig

    method_named(method, distils=True)
    ranking = RankingOptions(
        agreement=agreement,
        space=score_space,
        k=k,
        normalisation=normalisation,
        hard_teacher=hard_teacher,
        teacher_input=teacher_input,
        weight_class=weight_class,
        weight_sample=weight_sample,
        weight_discrepancy=weight_discrepancy,
    )
    config = TrainConfig(
        dataset=dataset,
        architecture=student,
        method=method,
        epsilon=budget,
        step_size=_step_size(step_size, budget),
        inner_steps=inner_steps,
        inner=inner,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        ema_decay=ema_decay,
        train_fraction=train_fraction,
        seed=seed,
        precision=precision,
        validate_every=validate_every,
        loss=LossOptions(anchor=anchor, ranking=ranking),
    )
    data = load_dataset(dataset, data_dir, download=download, image_size=image_size)
    with progress("distill") as report_progress:
        learned = learn(
            config,
            data,
            load_teacher(teacher, teacher_arch, data),
            out / "student.safetensors",
            minutes=minutes,
            resume=resume,
            force=force,
            torch_device=_torch_device(torch_device),
            report_progress=report_progress,
        )
    _print_learned(learned, json_summary)


@app.command()
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
    from ard.evaluate import evaluate_all
    from ard.stages import check_dataset, recipe_epsilon
    from edge_bench.metrics import accuracy, encode_mask
    from edge_bench.stats import wilson_interval
    from edge_bench.store import refuse_existing, write_json

    if out is not None:
        refuse_existing(out, force)
    network, card = load_model(model)
    budget = parse_epsilon(epsilon) if epsilon else recipe_epsilon(card)
    names = [name.strip() for name in attacks.split(",")]
    specs = [
        parse_attack(
            name,
            epsilon=budget,
            step_size=_step_size(step_size, budget),
            restarts=restarts,
            seed=seed,
        )
        for name in names
        if name != "clean"
    ]
    data = _load_dataset(dataset or card.dataset, data_dir, download, image_size)
    check_dataset(model, card, data)
    split = take_limit(data.test, limit)
    device = _torch_device(torch_device)
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
    title = f"{model.name} on {data.name}, white-box, L-inf {_fraction(budget)}"
    print_table(title, ["attack", "accuracy", "95% interval", "n"], rows)


@app.command("export")
def export_command(
    model: Annotated[Path, typer.Argument(help="Weights written by teach or distill.")],
    out: o.Out,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to static INT8 (QDQ).")] = False,
    target: Annotated[
        str, typer.Option(help="INT8 settings: x86, x86-vnni, arm or tensorrt.")
    ] = "x86",
    calibration_images: Annotated[
        int, typer.Option(help="Training images that set the INT8 ranges.", min=1)
    ] = 512,
    min_agreement: Annotated[
        float | None,
        typer.Option(help="Least share of equal classes; default 0.999, for INT8 0.9."),
    ] = None,
    dataset: o.OptionalDatasetName = None,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    seed: o.Seed = 0,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """Export to ONNX, fp32 or INT8, checked on clean and adversarial images before it is written.

    Example: ardx export runs/student/student.safetensors --out student.onnx --int8 --target arm
    """
    from dataclasses import asdict

    from ard.checkpoint import load_model
    from ard.stages import export
    from edge_bench.store import refuse_existing, sha256_file

    if out.suffix != ".onnx":
        raise InputError(f"--out {out}: expected a file name that ends in .onnx")
    refuse_existing(out, force)
    _, card = load_model(model)
    data = _load_dataset(dataset or card.dataset, data_dir, download, image_size)
    parities = export(
        model,
        data,
        out,
        int8_target=target if int8 else None,
        calibration_images=calibration_images,
        least_agreement=min_agreement,
        seed=seed,
        force=force,
    )
    if json_summary:
        checks = [asdict(parity) for parity in parities]
        print_json({"artifact": str(out), "sha256": sha256_file(out), "parity": checks})
        return
    rows = [
        [
            parity.images,
            f"{parity.largest_difference:.2g}",
            f"{parity.agreement:.2%}",
            f"{100 * parity.torch_accuracy:.1f} %",
            f"{100 * parity.artifact_accuracy:.1f} %",
            str(parity.samples),
        ]
        for parity in parities
    ]
    header = ["held-out images", "largest logit difference", "same class", "torch", "onnx", "n"]
    print_table(f"{out} ({'int8 ' + target if int8 else 'fp32'})", header, rows)


@app.command()
def attack(
    model: Annotated[Path, typer.Argument(help="Weights written by teach or distill.")],
    out: o.Out,
    attack_name: Annotated[
        str, typer.Option("--attack", help="fgsm, pgdN, cwN or autoattack.")
    ] = "pgd20",
    epsilon: o.OptionalEpsilon = None,
    step_size: o.StepSize = None,
    restarts: Annotated[int, typer.Option(help="Random starts of pgdN and cwN.", min=1)] = 1,
    off_grid: Annotated[
        bool, typer.Option("--off-grid", help="Keep float images instead of 8-bit levels.")
    ] = False,
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
    """Craft an adversarial set from test images, to be replayed on a device.

    Example: ardx attack runs/student/student.safetensors --attack pgd20 --out sets/pgd20
    """
    from ard.attacks import parse_attack
    from ard.checkpoint import load_model
    from ard.craft import craft_set
    from ard.data import take_limit
    from ard.stages import check_dataset, recipe_epsilon
    from edge_bench.sets import open_set
    from edge_bench.store import refuse_existing, sha256_file

    refuse_existing(out, force)
    network, card = load_model(model)
    budget = parse_epsilon(epsilon) if epsilon else recipe_epsilon(card)
    spec = parse_attack(
        attack_name,
        epsilon=budget,
        step_size=_step_size(step_size, budget),
        restarts=restarts,
        seed=seed,
    )
    data = _load_dataset(dataset or card.dataset, data_dir, download, image_size)
    check_dataset(model, card, data)
    device = _torch_device(torch_device)
    with progress(f"attack {attack_name}") as report_progress:
        craft_set(
            network.to(device),
            take_limit(data.test, limit),
            spec,
            out,
            dataset=data.name,
            classes=data.classes,
            source=model,
            source_sha256=sha256_file(model),
            on_grid=not off_grid,
            force=force,
            torch_device=device,
            report_progress=report_progress,
        )
    crafted = open_set(out)
    robust = 1 - float(crafted.source_success.mean())
    if json_summary:
        print_json(
            {
                "set": str(out),
                "samples": crafted.manifest.samples,
                "on_grid": crafted.manifest.on_grid,
                "source_sha256": crafted.manifest.source_sha256,
                "source_accuracy": robust,
            }
        )
        return
    print(
        f"{out}: {crafted.manifest.samples} images, {attack_name}, L-inf {_fraction(budget)}; "
        f"{model.name} keeps {100 * robust:.1f} % on them"
    )


app.command("bench")(edge_cli.bench)
app.command("gate")(edge_cli.gate)


@app.command()
def demo(
    out: o.Out = Path("demo"),
    dataset: Annotated[str, typer.Option(help="Dataset to show it on.")] = "digits",
    seed: o.Seed = 0,
    data_dir: o.DataDir = o.DEFAULT_DATA_DIR,
    force: o.Force = False,
    json_summary: o.Json = False,
) -> None:
    """The whole chain on scikit-learn's digits, without a download, in a few minutes.

    Example: ardx demo --out demo
    """
    from ard.demo import HEADER, run_demo, table_rows
    from edge_bench.store import refuse_existing

    refuse_existing(out, force)
    result = run_demo(out, dataset, data_dir, seed=seed, force=force, monitor=progress)
    if json_summary:
        print_json(result.as_json())
        return
    print_table(f"{dataset}, L-inf {result.epsilon:g}", HEADER, table_rows(result))
    print(result.footnote)
    for sentence in result.gate_sentences:
        print(f"gate: {sentence}")
    print("gate: failed" if result.gate_sentences else "gate: passed")
    print(f"files: {out}/ (weights, student.onnx, student-int8.onnx, sets/, reports/)")


@app.command()
def doctor(json_summary: o.Json = False) -> None:
    """What this environment can and cannot do, and the command that mends it.

    Example: ardx doctor
    """
    from ard.doctor import examine

    findings = examine()
    if json_summary:
        print_json({f.capability: {"found": f.found, "mend": f.mend} for f in findings})
        return
    rows = [[f.capability, f.found or "no", f.mend or "-"] for f in findings]
    print_table("this environment", ["capability", "found", "to get it"], rows)


def _step_size(text: str | None, epsilon: float) -> float:
    return parse_epsilon(text, "--step-size") if text else epsilon / 4


def _torch_device(name: str) -> str:
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--torch-device {name}: expected auto, cpu or cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise CapabilityError(
            "--torch-device cuda: torch sees no CUDA device here; use --torch-device cpu"
        )
    return "cuda" if available and name != "cpu" else "cpu"


def _load_dataset(name: str, data_dir: Path, download: bool, image_size: int | None) -> Dataset:
    from ard.data import load_dataset

    return load_dataset(name, data_dir, download=download, image_size=image_size)


def _print_learned(learned: Learned, json_summary: bool) -> None:
    from dataclasses import asdict

    config: TrainConfig = learned.config
    found = learned.validation
    if json_summary:
        print_json(
            {
                "weights": str(learned.weights),
                "sha256": learned.sha256,
                "method": config.method,
                "epochs": config.epochs,
                "validation": asdict(found),
            }
        )
        return
    print(
        f"{learned.weights}: {config.architecture} by {config.method}, best of {config.epochs} "
        f"epochs at {found.epoch}; held-out training images: clean "
        f"{100 * found.clean_accuracy:.1f} %, pgd10 {100 * found.robust_accuracy:.1f} %"
    )


def _fraction(epsilon: float) -> str:
    levels = epsilon * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-9 else f"{epsilon:g}"
