"""The fewest layers that must stay in float for the robustness budget to hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from deploy.allowed_drop.terms import (
    CHOSEN,
    FP32,
    PLAIN,
    AllowedDrop,
    Drop,
    DropError,
    Judged,
    Maker,
    Outcome,
    Strain,
    Trial,
)
from deploy.lowering.layers import Layer
from deploy.quantization.twin import open_as_target
from edge_bench import devices
from edge_bench.backends import open_backend
from edge_bench.core.progress import Monitor, silent
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import prepare, stored_logits
from edge_bench.statistics.stats import percentile_ms
from edge_bench.timing.measure import measure

# Beyond this many, each layer's own turn to be given up costs more than it is worth.
PRUNED_AT_MOST = 8
AT_ONCE = 64
ROUNDS, RUNS_PER_ROUND = 5, 20


def search(
    fp32: Path,
    maker: Maker,
    budget: AllowedDrop,
    folder: Path,
    monitor: Monitor = silent,
    root: Path = devices.ROOT,
) -> Outcome:
    """Find the fewest layers to keep in float, the most sensitive first, so that `budget` holds.

    Layers are ranked by what each does *alone* to a network that is in float otherwise. To leave
    one out of a network in low precision would measure the gain itself, but not see a fault that
    two layers share: an activation is rounded as long as the layer that writes it or the one that
    reads it is, so where it must not be, neither of the two does any good by itself.

    Args:
        fp32: the artefact in float, finished as `maker`'s are.
        folder: where trials are written.
        root: of the file system, which tells whether this machine computes as the target does.

    Raises:
        DropError: the budget does not hold with as many layers in float as are allowed.
    """
    trials = _Trials(fp32, maker, budget, folder, monitor)
    strains: list[Strain] = []
    kept: tuple[Layer, ...] | None = ()
    if not trials.holds(()):
        half = budget.deciding
        strains = strains_of(fp32, maker, half.adversarial, half.labels, folder, monitor, root)
        ranked = [strain.layer for strain in strains]
        most = len(ranked) - 1
        if budget.max_float_layers is not None:
            most = min(most, budget.max_float_layers)
        count = fewest(lambda count: trials.holds(ranked[:count]), most)
        kept = None if count is None else _pruned(ranked[:count], trials.holds)
    outcome = trials.outcome(strains, kept)
    if kept is None:
        raise DropError(_missed(outcome, budget), outcome)
    rows = {FP32: fp32, PLAIN: trials.path_of(()), CHOSEN: trials.path_of(kept)}
    judged: dict[Path, Judged] = {}
    with monitor("the other half") as report:
        for path in dict.fromkeys(rows.values()):
            judged[path] = budget.reporting.judge(path)
            report(len(judged), len(set(rows.values())), "")
    return replace(outcome, reported={name: judged[path] for name, path in rows.items()})


def fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """A count of 1 to `most` that holds where one fewer does not; None where `most` fails.

    0 is known to fail. Doubling and then halving asks about the logarithm of the answer, twice;
    where more layers hold whenever fewer do, there is one such count, and it is the least.
    """
    if most < 1:
        return None
    fails, count = 0, 1
    while not holds(count):
        if count == most:
            return None
        fails, count = count, min(2 * count, most)
    while count - fails > 1:
        middle = (fails + count) // 2
        if holds(middle):
            count = middle
        else:
            fails = middle
    return count


def _pruned(kept: Sequence[Layer], holds: Callable[[Sequence[Layer]], bool]) -> tuple[Layer, ...]:
    """`kept` without layers that the budget holds without, the least sensitive tried first."""
    left = list(kept)
    if len(kept) <= PRUNED_AT_MOST:
        # Without the last one it was seen to fail.
        for layer in reversed(kept[:-1]):
            without = [other for other in left if other is not layer]
            if holds(without):
                left = without
    return tuple(left)


class _Trials:
    """Artefacts that were made and judged, each once."""

    def __init__(
        self, fp32: Path, maker: Maker, budget: AllowedDrop, folder: Path, monitor: Monitor
    ) -> None:
        self._maker, self._budget, self._folder, self._monitor = maker, budget, folder, monitor
        self._fp32 = fp32
        self._found: dict[frozenset[Layer], tuple[Path, tuple[Layer, ...], Judged]] = {}
        with monitor("fp32") as report:
            self._reference = budget.deciding.judge(fp32)
            report(1, 1, f"{self._reference.robust.mean():.1%} robust")

    def holds(self, in_float: Sequence[Layer]) -> bool:
        """Is the drop with these layers in float within the budget?"""
        _, _, judged = self._judged(in_float)
        drop = Drop.between(self._reference.robust, judged.robust).value
        # A budget of 0.01 on 100 images allows one of them, whatever 1/100 is in binary.
        return drop <= self._budget.max_drop + 1e-9

    def path_of(self, in_float: Sequence[Layer]) -> Path:
        """The artefact with these layers in float."""
        return self._judged(in_float)[0]

    def outcome(self, strains: Sequence[Strain], kept: Sequence[Layer] | None) -> Outcome:
        """All of it, timed."""
        some = self._budget.deciding.adversarial[:1]
        paths = [self._fp32, *(path for path, _, _ in self._found.values())]
        with self._monitor("latency"):
            latency = dict(zip(paths, latencies_ms(paths, some), strict=True))

        def trial(path: Path, in_float: tuple[Layer, ...], judged: Judged) -> Trial:
            return Trial(
                path=path,
                in_float=in_float,
                judged=judged,
                drop=Drop.between(self._reference.robust, judged.robust),
                size_bytes=path.stat().st_size,
                latency_ms=latency[path],
            )

        found = sorted(self._found.items(), key=lambda entry: len(entry[0]))
        chosen = None if kept is None else [key for key, _ in found].index(frozenset(kept))
        return Outcome(
            max_drop=self._budget.max_drop,
            fp32=trial(self._fp32, (), self._reference),
            trials=tuple(trial(*one) for _, one in found),
            strains=tuple(strains),
            layers=len(self._maker.layers),
            chosen=chosen,
            reported={},
        )

    def _judged(self, in_float: Sequence[Layer]) -> tuple[Path, tuple[Layer, ...], Judged]:
        key = frozenset(in_float)
        if key not in self._found:
            path = self._folder / f"trial-{len(self._found)}.onnx"
            with self._monitor(f"{len(key)} layers in float") as report:
                self._maker.make(path, in_float)
                judged = self._budget.deciding.judge(path)
                report(1, 1, f"{judged.robust.mean():.1%} robust")
            self._found[key] = (path, tuple(in_float), judged)
        return self._found[key]


def strains_of(
    fp32: Path,
    maker: Maker,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    folder: Path,
    monitor: Monitor,
    root: Path,
) -> list[Strain]:
    """What each layer does when it alone has the lower precision, the largest shift first.

    Args:
        fp32: as of `search`.
        images: (N, C, H, W); labels are (N,).
        folder: where trials are written.
    """
    expected = _margins(fp32, images, labels, root)
    path = folder / "alone.onnx"
    found: list[Strain] = []
    with monitor("one layer at a time") as report:
        for done, layer in enumerate(maker.layers, start=1):
            maker.make(path, [other for other in maker.layers if other is not layer])
            margins = _margins(path, images, labels, root)
            found.append(
                Strain(
                    layer=layer,
                    margin_shift=float(np.abs(margins - expected).mean()),
                    drop=Drop.between(expected > 0, margins > 0),
                )
            )
            report(done, len(maker.layers), "")
    return sorted(found, key=lambda strain: strain.margin_shift, reverse=True)


def _margins(
    artifact: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], root: Path
) -> NDArray[np.float32]:
    """(N,) logit of the label minus the largest other one."""
    with open_as_target(artifact, root=root) as backend:
        assert backend.card is not None
        classes = backend.card.classes
        size = AT_ONCE if backend.input.batch_size is None else len(labels)
        logits = np.concatenate(
            [
                stored_logits(backend, images[begin : begin + size], classes)
                for begin in range(0, len(labels), size)
            ]
        )
    rows = np.arange(len(logits))
    right = logits[rows, labels]
    logits[rows, labels] = -np.inf
    margins: NDArray[np.float32] = right - logits.max(axis=1)
    return margins


def latencies_ms(artifacts: Collection[Path], images: NDArray[np.uint8]) -> list[float]:
    """Median latency of a call of each artefact with `images` (B, C, H, W), on one thread.

    In turns, so that whatever else the machine does meets all of them; opened anew for each turn,
    since many sessions at once are much memory.
    """
    samples: list[list[float]] = [[] for _ in artifacts]
    for _ in range(ROUNDS):
        for path, found in zip(artifacts, samples, strict=True):
            with open_backend("ort", path, 1) as backend:
                size = backend.input.batch_size or len(images)
                batch = prepare(
                    np.resize(images, (size, *images.shape[1:])), backend.input, BenchOptions()
                )
                measurement = measure(
                    partial(backend.infer, batch),
                    batch_size=size,
                    warmup_runs=2,
                    min_runs=RUNS_PER_ROUND,
                    min_seconds=0,
                )
            found.append(percentile_ms(measurement, 0.5))
    return [median(found) for found in samples]


def _missed(outcome: Outcome, budget: AllowedDrop) -> str:
    """Why there is nothing to write."""
    best = min(outcome.trials, key=lambda trial: trial.drop.value)
    limit = budget.max_float_layers
    most = f"--max-float-layers {limit}" if limit is not None else "all but one"
    return (
        f"--max-robust-drop {budget.max_drop:g}: with {len(best.in_float)} of {outcome.layers} "
        f"layers in float ({most} were allowed) {best.drop} points of robust accuracy are lost on "
        f"the {best.drop.samples} images that decide, so nothing was written; allow a larger drop "
        "or more layers, or try another --target or --calibration"
    )
