"""A network with sines between its integers, its exports, and ONNX Runtime under any options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from deploy.artifact import export_artifact
from deploy.plan import ExportPlan, Int8Plan
from edge_bench.core.spec import ModelCard

CARD = ModelCard(architecture="test", dataset="noise", classes=4, input_shape=(3, 8, 8))


class Deep(nn.Module):
    """Sines in float between its integers: the two ways to run it in S8S8 lie steps apart."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.bodies = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(width * 64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem((x - 0.5) / 0.25))
        for body in self.bodies:
            x = torch.sin(2 * (x + body(x)))
        logits: torch.Tensor = self.head(x.flatten(1))
        return logits


def exported(
    model: nn.Module,
    folder: Path,
    target: str | None,
    images: torch.Tensor,
    force: bool = False,
    **checks: torch.Tensor,
) -> Path:
    """The artefact of a network, calibrated and checked on `images`, with its fingerprint."""
    plan = ExportPlan(
        parent_sha256="f" * 64,
        int8=Int8Plan(target=target, calibration=images[:64]) if target else None,
        check_images={"clean": images[:16]} | checks,
        check_labels=torch.zeros(16, dtype=torch.int64),
        least_agreement=0.0,
    )
    out = folder / f"{target or 'fp32'}.onnx"
    export_artifact(model, CARD, plan, out, force=force)
    return out


def network(width: int, depth: int, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """A network with the batch statistics of noise, and noise (200, 3, 8, 8)."""
    torch.manual_seed(seed)
    model = Deep(width, depth)
    images = torch.rand(200, 3, 8, 8)
    with torch.no_grad():
        for _ in range(10):
            model(torch.rand(64, 3, 8, 8))
    # The last bits of sums are the processor's, and the sines would make other networks of them.
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(buffer.bfloat16())
    return model.eval(), images


def session(path: Path, level: str = "ENABLE_ALL", **entries: str) -> Callable[..., Any]:
    """The logits of 8-bit levels by ONNX Runtime itself, under options of its own."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key}", value)
    opened = onnxruntime.InferenceSession(str(path), options)

    def scores(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (logits,) = opened.run(None, {"images": levels.astype(np.float32) / 255})
        return np.asarray(logits)

    return scores
