"""Teach a robust teacher, distil a small student from it, and export the student as INT8.

python examples/distil_and_export.py OUT [EPOCHS]
"""

from __future__ import annotations

import sys
from pathlib import Path

from ard import LossOptions, TrainConfig, export, learn, load_dataset, load_teacher
from edge_bench.core.errors import ArdxError

EPSILON = 0.15


def settings(architecture: str, method: str, epochs: int) -> TrainConfig:
    """Of both trainings: digits are small, so that a budget of 0.15 is a fair one.

    Three steps of half of it, which is quick; train longer and with more to ship.
    """
    return TrainConfig(
        dataset="digits",
        architecture=architecture,
        method=method,
        epsilon=EPSILON,
        step_size=EPSILON / 2,
        inner_steps=3,
        epochs=epochs,
        batch_size=64,
        loss=LossOptions(),
    )


def main(out: Path, epochs: int) -> None:
    """Write OUT/teacher, OUT/student and OUT/student-int8.onnx."""
    digits = load_dataset("digits", Path("data"))
    taught = learn(
        settings("resnet8:32", "pgd_at", epochs), digits, None, out / "teacher/teacher.safetensors"
    )
    teacher = load_teacher(taught.weights, None, digits)
    student = learn(
        settings("resnet8", "ard", epochs), digits, teacher, out / "student/student.safetensors"
    )
    print(f"student: {student.validation}")
    exported = export(student.weights, digits, out / "student-int8.onnx", int8_target="x86")
    for parity in exported.parities:
        print(parity)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15)
    except ArdxError as error:  # Such as weights of an earlier run, which nothing writes over.
        sys.exit(f"error: {error}")
