"""Memory and time of the ranking losses: python benchmarks/ranking_memory.py

One step of all three levels, forward and backward, in float32 on the CPU. Memory is the growth of
the process's largest resident size over a small step made before.
"""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from ard.ranking.levels import RankingOptions, ranking_losses
from edge_bench.devices.process import peak_memory_bytes

SIZES = ((128, 10), (128, 200), (256, 1000), (1024, 1000))


def step(rows: int, classes: int, options: RankingOptions) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, adversarial, teacher_clean, teacher_adversarial = (
        torch.randn(rows, classes, generator=generator) for _ in range(4)
    )
    clean.requires_grad_()
    adversarial.requires_grad_()
    losses = ranking_losses(clean, adversarial, teacher_clean, teacher_adversarial, options)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]


def measure(agreement: str, rows: int, classes: int) -> str:
    options = RankingOptions(agreement=agreement)
    step(8, 10, options)
    before = peak_memory_bytes()
    begin = time.perf_counter()
    step(rows, classes, options)
    seconds = time.perf_counter() - begin
    growth = (peak_memory_bytes() - before) / 1e6
    pairs = 4 * (rows * classes**2 + classes * rows**2) / 1e6
    return (
        f"{agreement:9} B={rows:5} C={classes:5}: {growth:8.1f} MB, {seconds:7.3f} s "
        f"(one value per pair: {pairs:.0f} MB)"
    )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    else:
        for agreement in ("kendall", "spearman"):
            for rows, classes in SIZES:
                # A process of its own, so that one case's peak does not hide the next one's.
                case = [agreement, str(rows), str(classes)]
                subprocess.run([sys.executable, __file__, *case], check=True)
