"""The whole chain in a few minutes: what `ardx demo` runs and shows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ard.attacks.registry import parse_attack
from ard.attacks.victims import weights_victim
from ard.crafting.craft import craft_set
from ard.data.datasets import load_dataset
from ard.data.sources import SplitSource
from ard.data.splits import Dataset
from ard.exporting.export import export
from ard.learning.config import TrainConfig
from ard.learning.learn import Learned, learn
from ard.learning.teacher import Teacher, load_teacher
from ard.methods.parts.base import LossOptions
from ard.ranking.levels import RankingOptions
from edge_bench.core.errors import InputError
from edge_bench.core.gate import Gate
from edge_bench.core.progress import Monitor
from edge_bench.core.spec import Report
from edge_bench.files.report_file import read_report
from edge_bench.files.store import atomic_directory
from edge_bench.policy.gate import check
from edge_bench.report.summary import summarise

# On 8x8 digits an undefended network falls to almost nothing at this budget, while an
# adversarially trained one keeps most of its accuracy.
EPSILON = 0.15
DATASETS = ("digits",)
ATTACKS = ("pgd20", "cw30")
GATE = Gate(min_robust_accuracy=0.6, max_robust_drop=0.03)
HEADER = ["model", "clean", "robust", "p50", "size"]
FOOTNOTE = (
    "robust: right on the clean image and under PGD-20 and CW-30, crafted white-box on each "
    "model's own fp32 weights\nand replayed on its ONNX file. For INT8 that is a transfer attack, "
    "so its figure is an upper bound."
)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Reports by row of the table, and what the gate said of the INT8 student."""

    epsilon: float
    reports: dict[str, Report]
    gate_sentences: tuple[str, ...]
    footnote: str = FOOTNOTE

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "epsilon": self.epsilon,
            "models": {name: summarise(report) for name, report in self.reports.items()},
            "gate": {"passed": not self.gate_sentences, "violations": list(self.gate_sentences)},
        }


def table_rows(result: DemoResult) -> list[list[str]]:
    """One row per model under HEADER."""
    rows = []
    for name, report in result.reports.items():
        figures = summarise(report)
        rows.append(
            [
                name,
                f"{100 * figures['clean_accuracy']:.1f} %",
                f"{100 * figures['worst_case_accuracy']:.1f} %",
                f"{figures['latency_ms']['p50']:.3f} ms",
                f"{figures['size_bytes'] / 1024:.0f} KiB",
            ]
        )
    return rows


def run_demo(
    out: Path, dataset_name: str, *, seed: int, force: bool, monitor: Monitor
) -> DemoResult:
    """Train, distil, export, quantise, attack, bench and gate into the folder `out`.

    Raises:
        InputError: a dataset that the demo has no settings for.
    """
    if dataset_name not in DATASETS:
        raise InputError(
            f"--dataset {dataset_name}: the demo knows {', '.join(DATASETS)}; run the stages "
            "teach, distill, export, attack, bench for others"
        )
    dataset = load_dataset(dataset_name, Path("data"))
    with atomic_directory(out, force, "reports") as folder:
        learned = _learn_all(folder, dataset, seed, monitor)
        for name, model in learned.items():
            _craft_all(model, folder / "sets" / name, dataset, seed, monitor)
        artifacts = {
            "teacher": ("teacher", None),
            "student fp32": ("student", None),
            "student int8": ("student", "x86"),
            "undefended student": ("undefended", None),
        }
        reports: dict[str, Report] = {}
        for row, (source, int8_target) in artifacts.items():
            file_name = f"{source}{'-int8' if int8_target else ''}"
            artifact = folder / f"{file_name}.onnx"
            weights = learned[source].weights
            export(weights, dataset, artifact, int8_target=int8_target, seed=seed)
            reports[row] = _bench(folder, file_name, source)
    violations = check(reports["student int8"], GATE, baseline=reports["student fp32"])
    return DemoResult(
        epsilon=EPSILON,
        reports=reports,
        gate_sentences=tuple(violation.sentence for violation in violations),
    )


def _learn_all(folder: Path, dataset: Dataset, seed: int, monitor: Monitor) -> dict[str, Learned]:
    """A robust teacher, the student distilled from it, and the same student undefended."""

    def one(
        name: str,
        architecture: str,
        method: str,
        epochs: int,
        teacher: Teacher | None,
        weights: str,
    ) -> Learned:
        config = TrainConfig(
            dataset=dataset.name,
            architecture=architecture,
            method=method,
            epsilon=EPSILON,
            step_size=EPSILON / 4,
            epochs=epochs,
            batch_size=64,
            seed=seed,
            # Half the time of a step; the default's teacher is asked in every step of the attack.
            loss=LossOptions(anchor="rslad", ranking=RankingOptions(k=2.0)),
        )
        with monitor(name) as report_progress:
            return learn(
                config, dataset, teacher, folder / weights, report_progress=report_progress
            )

    robust = one("teach", "resnet8:32", "pgd_at", 15, None, "teacher/teacher.safetensors")
    teacher = load_teacher(robust.weights, None, dataset)
    return {
        "teacher": robust,
        "student": one("distill", "resnet8", "ard", 25, teacher, "student/student.safetensors"),
        "undefended": one(
            "no defence", "resnet8", "natural", 15, None, "undefended/student.safetensors"
        ),
    }


def _bench(folder: Path, file_name: str, source: str) -> Report:
    """Run `bench` as on a device: in a process of its own, without torch, inside the folder."""
    report = Path("reports") / f"{file_name}.json"
    command = [
        *(sys.executable, "-m", "edge_bench", "bench", f"{file_name}.onnx"),
        *("--sets", f"sets/{source}", "--out", str(report), "--threads", "1", "--seconds", "1"),
        "--json",
    ]
    # Only the report is wanted; progress and errors go where ours go.
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL)  # noqa: S603
    if done.returncode != 0:
        raise InputError(f"bench of {file_name}.onnx ended with exit {done.returncode}, see above")
    return read_report(folder / report)


def _craft_all(learned: Learned, sets: Path, dataset: Dataset, seed: int, monitor: Monitor) -> None:
    victim = weights_victim(learned.weights)
    for name in ATTACKS:
        with monitor(f"attack {learned.weights.parent.name} {name}") as report_progress:
            craft_set(
                victim,
                SplitSource(dataset.test, dataset.name, dataset.classes, dataset.class_names),
                parse_attack(name, epsilon=EPSILON, seed=seed),
                sets / name,
                report_progress=report_progress,
            )
