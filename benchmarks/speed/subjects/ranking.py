"""Time and memory of the ranking losses."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ard.learning.step import Teachers
from ard.ranking.levels import RankingOptions, ranking_losses, zscore
from benchmarks.methods import passes
from benchmarks.methods.passes import Setting
from benchmarks.speed.finding import Asked, Case, Finding, against, alone, missing
from benchmarks.speed.turns import by_turns, seconds_a_call
from edge_bench.devices.process import peak_memory_bytes

TITLE = "Ranking losses"
SECONDS = 113.0
ABOUT = """All three levels of ARD, forward and backward, float32: beside the same sums over a
broadcast of all pairs, beside RSLAD's KL terms, and as a share of a ResNet-18's step (PGD-10, 32 x
32 pixels, timed at B = 16 and scaled to B). Memory is what a process grows by over a small call,
in units of one array (B, C) of float32. `top 50` ranks the teacher's likeliest 50 classes."""
LEFT = """Pairs of classes: B C^2 of them at two levels, for each a difference, a sum, a division
and two products over tiles that fit the cache, beside C B^2 / 2 pairs of samples. A setting that
ranks the teacher's likeliest classes (`ranking.top`) leaves the latter."""

SHARE_OF_A_STEP, MOST_ARRAYS = 2.0, 64.0
SIZES = ((128, 10), (128, 200), (1024, 10), (128, 1000), (1024, 1000))
TOP = 50
MOST_BYTES = 1.5e9
"""That a broadcast may hold; what takes more is not tried."""
HELD_A_PAIR = 6
"""Values of float32 that autograd keeps of each pair of a broadcast, and of which one is made."""
STEP_BATCH = 16
K = RankingOptions().k
Four = tuple[Tensor, Tensor, Tensor, Tensor]


def cases(asked: Asked) -> dict[str, Case]:
    """Sizes of the logits."""
    sizes = SIZES[:1] if asked.quick else SIZES
    return {
        f"B = {rows}, C = {classes}": partial(measured, rows, classes, asked)
        for rows, classes in sizes
    }


def measured(rows: int, classes: int, asked: Asked) -> list[Finding]:
    """Everything of one size."""
    torch.manual_seed(0)
    least = 0.01 if asked.quick else 0.3
    rivals: dict[str, Callable[[], object]] = {
        "ours": partial(ours, logits(rows, classes)),
        "kl": partial(kl, logits(rows, classes)),
    }
    if classes > TOP:
        rivals["top"] = partial(ours, logits(rows, classes), top=TOP)
    held = 4 * HELD_A_PAIR * (2 * rows * classes**2 + classes * rows**2)
    if held <= MOST_BYTES:
        rivals["broadcast"] = partial(broadcast, logits(rows, classes))
    for each in rivals.values():
        each()
    timed = {name: seconds_a_call(each, least) for name, each in rivals.items()}
    found = by_turns(timed, asked.turns)
    pairs = "a broadcast of all pairs"
    findings = [
        against(found["ours"], found["broadcast"], "times as fast", rival=pairs, bar=1.0)
        if "broadcast" in found
        else missing(pairs, "times as fast", f"not tried: {held / 1e9:.0f} GB", bar=1.0),
        against(found["ours"], found["kl"], "over", rival="the KL terms of RSLAD"),
    ]
    if asked.quick:
        return findings
    step = step_seconds(asked.turns) * rows / STEP_BATCH
    for name, words in (("ours", "a step"), ("top", f"a step, top {TOP} ranked")):
        if name in found:
            shares = [100 * took / step for took in found[name]]
            findings.append(alone(shares, rival=words, bar=SHARE_OF_A_STEP, unit="%"))
    grown = growth_bytes(rows, classes) / (4 * rows * classes)
    if rows * classes >= 100_000:  # Smaller ones drown in pages.
        findings.append(
            alone([grown], rival="memory, arrays (B, C)", bar=MOST_ARRAYS, unit="arrays")
        )
    return findings


def logits(rows: int, classes: int) -> Four:
    """Student's and teacher's, clean and adversarial, (B, C) each; the student's with gradients."""
    clean, adversarial, taught_clean, taught_adversarial = torch.randn(4, rows, classes)
    return clean.requires_grad_(), adversarial.requires_grad_(), taught_clean, taught_adversarial


def ours(of: Four, top: int = 0) -> Tensor:
    """All levels together, after their gradients were taken."""
    losses = ranking_losses(*of, RankingOptions(top=top))
    return _descended(torch.stack(list(losses.values())).sum())


def kl(of: Four) -> Tensor:
    """What RSLAD computes in their place."""
    told = F.softmax(of[2], dim=1)
    losses = [F.kl_div(F.log_softmax(z, dim=1), told, reduction="batchmean") for z in of[:2]]
    return _descended(torch.stack(losses).sum())


def broadcast(of: Four) -> Tensor:
    """The same as `ours`, with one value for each pair."""
    clean, adversarial, taught_clean, taught_adversarial = of
    levels = (
        _apart(adversarial, taught_adversarial),
        _apart(adversarial.t(), taught_adversarial.t()),
        _apart(clean - adversarial, taught_clean - taught_adversarial),
    )
    return _descended(torch.stack(levels).sum())


def _apart(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - mean over pairs of the product of both comparisons."""
    a, b = (
        torch.tanh(K * (scores.unsqueeze(2) - scores.unsqueeze(1)))
        for scores in (zscore(student), zscore(teacher))
    )
    n = student.shape[1]
    return 1 - (a * b).sum(dim=(1, 2)).mean() / (n * (n - 1))


def _descended(loss: Tensor) -> Tensor:
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def seconds_of(rows: int, classes: int, turns: int, top: int) -> list[float]:
    """Of all levels, in each turn."""
    torch.manual_seed(0)
    call = partial(ours, logits(rows, classes), top=top if top < classes else 0)
    call()
    timed = seconds_a_call(call, 0.2)
    return [timed() for _ in range(turns)]


@cache
def step_seconds(turns: int) -> float:
    """Median of a ResNet-18's step, B = STEP_BATCH."""
    setting = Setting(
        "resnet18", "resnet8:32", side=32, classes=10, inner_steps=10, batch=STEP_BATCH
    )
    dataset = passes.noise(setting)
    teacher = passes.network(setting.teacher, dataset).eval().requires_grad_(False)
    steps = passes.seconds_of_steps(setting.config("rslad"), dataset, Teachers(robust=teacher))
    next(steps)
    return statistics.median(next(steps) for _ in range(turns))


def growth_bytes(rows: int, classes: int) -> float:
    """What a process grows by in one call, made in one of its own."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(rows), str(classes)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(json.loads(done.stdout))


def _grown(rows: int, classes: int) -> int:
    ours(logits(8, 10))
    given = logits(rows, classes)
    before = peak_memory_bytes()
    ours(given)
    return peak_memory_bytes() - before


if __name__ == "__main__":
    print(_grown(*map(int, sys.argv[1:])))
