"""A change as people and machines read it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edge_bench.compare.accuracies import INCONCLUSIVE, AccuracyChange
from edge_bench.compare.latencies import LatencyChange
from edge_bench.compare.pictures import PicturesChange
from edge_bench.compare.reports import Change
from edge_bench.core.markdown import escaped, plain, table
from edge_bench.statistics.path import PATH_ACCURACY

HEADER = ["", "before", "after", "change (95%)", "lost, won", "p", "shows", "verdict"]
LATENCY_HEADER = ["", "before", "after", "ratio (95%)", "calls", "verdict"]
MOST_TOLD = 20
HEADLINES = {
    "worst_case": "worst-case robust accuracy",
    "clean": "clean accuracy",
    PATH_ACCURACY: "accuracy from file to logits",
}


def accuracy_rows(change: Change) -> list[list[str]]:
    """The table of HEADER: percent, points, samples."""
    pictures = (change.pictures.accuracy,) if change.pictures else ()
    return [_row(found) for found in (*change.accuracies, *pictures, *change.classes)]


def _row(found: AccuracyChange) -> list[str]:
    low, high = found.interval
    moved = (
        "" if found.lost is None or found.won is None else f"{len(found.lost)}, {len(found.won)}"
    )
    return [
        plain(found.metric),
        f"{100 * found.old:.1f} %",
        f"{100 * found.new:.1f} %",
        f"{100 * found.difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
        moved,
        f"{found.p_value:.2g}",
        f"{100 * found.detectable:.2f}",
        found.verdict,
    ]


def latency_rows(change: Change) -> list[list[str]]:
    """The table of LATENCY_HEADER."""
    pictures = change.pictures.latencies if change.pictures else ()
    return [_latency_row(found) for found in (*change.latencies, *pictures)]


def _latency_row(found: LatencyChange) -> list[str]:
    ratio, low, high = found.ratio
    return [
        found.metric,
        f"{found.old:.3f} ms",
        f"{found.new:.3f} ms",
        f"{ratio:.3f} ({low:.3f} to {high:.3f})",
        f"{found.samples[0]}, {found.samples[1]}",
        found.verdict,
    ]


def sentences(change: Change) -> list[str]:
    """What the tables do not say: how they were compared, which samples changed, what would
    decide."""
    told = []
    if change.accuracies or change.pictures is None:
        told.append(
            "the same images, compared sample by sample"
            if change.is_paired
            else "other images, compared as independent samples"
        )
    for which, names in (("before", change.only_old), ("after", change.only_new)):
        if names:
            told.append(
                f"only {which}, and left out: {', '.join(map(plain, names))} (other attacks, other "
                "settings, or on what other sets had left)"
            )
    if change.in_worst_case:
        told.append(
            f"in the worst case alone: {', '.join(map(plain, change.in_worst_case))} (of all "
            "images in one report, of what other attacks left in the other)"
        )
    if not change.is_same_device:
        told.append(
            "latencies are of other devices, runtimes or threads: their ratio is that of machines"
        )
    head = change.headline
    if head is not None and head.metric != PATH_ACCURACY and head.lost is not None:
        told += _moved(head, _classes(change))
    if change.pictures is not None:
        told += _about_pictures(change.pictures)
    if change.pictures_apart is not None:
        told.append(change.pictures_apart)
    if head is not None and head.verdict == INCONCLUSIVE:
        told.append(_would_decide(head))
    return told


def _about_pictures(change: PicturesChange) -> list[str]:
    old, new = change.pipelines
    by = f"by {plain(old)}" if old == new else f"by {plain(old)} before and {plain(new)} after"
    if change.labels is None:
        return [f"other pictures, {by}, compared as independent samples"]
    classes = [change.class_names[label] for label in change.labels]
    return [
        f"the same pictures, {by}, compared one by one",
        *_moved(change.accuracy, classes, " from file to logits"),
    ]


def _classes(change: Change) -> list[str] | None:
    if change.labels is None:
        return None
    return [change.class_names[label] for label in change.labels]


def _moved(found: AccuracyChange, classes: list[str] | None, where: str = "") -> list[str]:
    """Samples that one of both gets right alone, with the class of each where it is known."""

    def sample(index: int) -> str:
        return str(index) if classes is None else f"{index} ({plain(classes[index])})"

    told = []
    for what, indices in (("broken", found.lost), ("won", found.won)):
        if indices:
            few = ", ".join(map(sample, indices[:MOST_TOLD]))
            more = f" and {len(indices) - MOST_TOLD} more" if len(indices) > MOST_TOLD else ""
            told.append(f"newly {what}{where}: {few}{more}")
    return told


def _would_decide(head: AccuracyChange) -> str:
    shows = f"{100 * head.detectable:.2f} points"
    told = f"{min(head.samples)} samples show a difference of {shows} with a power of 80 %"
    if head.needed is None:
        return f"inconclusive: {told}; replay more images"
    return f"inconclusive: {told}; {head.needed} would decide one as large as was seen"


def verdict_line(change: Change) -> str:
    """The verdict, and what it is of."""
    head = change.headline
    if head is None:
        return "compare: inconclusive (no common images; latencies above)"
    told = f"{change.verdict} ({HEADLINES[head.metric]} {100 * head.difference:+.2f} points)"
    if change.pictures is not None and head.metric != PATH_ACCURACY:
        found = change.pictures.accuracy
        told += f"; from file to logits {found.verdict} ({100 * found.difference:+.2f} points)"
    return f"compare: {told}"


def as_json(change: Change) -> dict[str, Any]:
    """Plain JSON values."""
    names = {str(label): name for label, name in change.class_names.items()}
    return {"verdict": change.verdict} | asdict(change) | {"class_names": names}


def as_markdown(change: Change) -> str:
    """Verdict, tables and sentences."""
    parts = [f"### {escaped(verdict_line(change))}\n"]
    if rows := accuracy_rows(change):
        parts.append(table(HEADER, rows))
    if rows := latency_rows(change):
        parts.append(table(LATENCY_HEADER, rows))
    parts.append("".join(f"- {escaped(sentence)}\n" for sentence in sentences(change)))
    return "\n".join(parts)
