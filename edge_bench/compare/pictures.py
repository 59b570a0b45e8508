"""What changed from file to logits: who is right on which picture, and how long the way takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_bench.compare.accuracies import AccuracyChange, compare_accuracy
from edge_bench.compare.latencies import PERCENTILES, LatencyChange, compare_latency
from edge_bench.core.pictures.walked import Walked
from edge_bench.core.series import series_array
from edge_bench.statistics.path import PATH_ACCURACY, as_measurement, right


@dataclass(frozen=True, kw_only=True)
class PicturesChange:
    """What changed between two walks from files to logits.

    Attributes:
        is_paired: both walked the same files, so that they are compared picture by picture.
        pipelines: of the old and of the new.
        accuracy: on each one's own pipeline.
        latencies: of all stages together.
        labels: class of each picture, where they are the same.
        class_names: in the order of the labels.
    """

    is_paired: bool
    pipelines: tuple[str, str]
    accuracy: AccuracyChange
    latencies: tuple[LatencyChange, ...]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...]


def compare_pictures(
    old: Walked, new: Walked, margin: float, latency_margin: float
) -> PicturesChange:
    """Compare two walks over pictures of the same classes; margins as of `compare_reports`."""
    is_paired = (old.files_sha256, old.labels) == (new.files_sha256, new.labels)
    labels = series_array(new.labels)
    times = as_measurement(old), as_measurement(new)
    latencies = [compare_latency(*times, p, latency_margin, "path") for p in PERCENTILES]
    return PicturesChange(
        is_paired=is_paired,
        pipelines=(old.pipeline, new.pipeline),
        accuracy=compare_accuracy(
            PATH_ACCURACY,
            right(old),
            right(new),
            margin,
            np.arange(len(labels)) if is_paired else None,
        ),
        latencies=tuple(change for change in latencies if change is not None),
        labels=tuple(labels.tolist()) if is_paired else None,
        class_names=tuple(new.class_names),
    )


def why_apart(old: Walked | None, new: Walked | None) -> str | None:
    """Why nothing is compared from file to logits; None where it is, or nothing was walked."""
    if old is None and new is None:
        return None
    if old is None or new is None:
        which = "after" if old is None else "before"
        return f"only {which}, and left out: pictures from file to logits"
    if tuple(old.class_names) != tuple(new.class_names):
        return "pictures from file to logits are of other classes than before, and left out"
    return None
