"""What changed from one report to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_bench.compare.accuracies import (
    INCONCLUSIVE,
    AccuracyChange,
    compare_accuracy,
    corrected,
)
from edge_bench.compare.latencies import PERCENTILES, LatencyChange, compare_latency
from edge_bench.compare.pictures import PicturesChange, compare_pictures, why_apart
from edge_bench.core.errors import InputError
from edge_bench.core.spec import Report, SetManifest
from edge_bench.options.margins import LATENCY_MARGIN, MARGIN
from edge_bench.statistics.metrics import (
    BoolArray,
    adversarial,
    class_names,
    decode_mask,
    labels_of,
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What changed between two reports.

    Attributes:
        is_paired: both saw the same images, so that they are compared sample by sample.
        is_same_device: latencies are those of one machine and runtime.
        accuracies: clean, worst case, and each attack that both saw.
        classes: worst case (clean where nothing was replayed under attack) of each class.
        latencies: percentiles that both reports can give.
        only_old, only_new: attacks that the other did not see.
        in_worst_case: attacks that count there alone: on all images in one of the two, on what
            the other attacks left in the other.
        labels: class of each sample, of paired reports that tell it.
        class_names: of the classes, by number.
        pictures: from file to logits, where both walked pictures of the same classes.
        pictures_apart: why not, where one of them walked some.
    """

    is_paired: bool
    is_same_device: bool
    accuracies: tuple[AccuracyChange, ...]
    classes: tuple[AccuracyChange, ...]
    latencies: tuple[LatencyChange, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    in_worst_case: tuple[str, ...]
    labels: tuple[int, ...] | None
    class_names: dict[int, str]
    pictures: PicturesChange | None
    pictures_apart: str | None

    @property
    def headline(self) -> AccuracyChange | None:
        """The worst case where there is one, else the clean accuracy, else that of pictures."""
        found = {change.metric: change for change in self.accuracies}
        pictures = self.pictures.accuracy if self.pictures else None
        return found.get("worst_case", found.get("clean", pictures))

    @property
    def verdict(self) -> str:
        """That of the headline."""
        return self.headline.verdict if self.headline else INCONCLUSIVE


def compare_reports(
    old: Report, new: Report, margin: float = MARGIN, latency_margin: float = LATENCY_MARGIN
) -> Change:
    """Compare two reports; margins as in `compare_accuracy` and `compare_latency`.

    Example:
        change = compare_reports(read_report(Path("old.json")), read_report(Path("new.json")))
        print(change.verdict)

    Raises:
        InputError: they have nothing in common to compare.
    """
    is_paired = old.images_sha256 is not None and old.images_sha256 == new.images_sha256
    common, alike = _common(old, new)
    if old.clean_mask is not None and new.clean_mask is not None and not is_paired:
        _require_same_task(old, new)
    accuracies = tuple(_accuracies(old, new, common, alike, margin, is_paired))
    latencies = [compare_latency(old.latency, new.latency, p, latency_margin) for p in PERCENTILES]
    told = tuple(change for change in latencies if change is not None)
    apart = why_apart(old.pictures, new.pictures)
    pictures = None
    if old.pictures is not None and new.pictures is not None and apart is None:
        pictures = compare_pictures(old.pictures, new.pictures, margin, latency_margin)
    if not accuracies and not told and pictures is None:
        raise InputError(
            "the two reports have nothing in common to compare: neither replayed images nor "
            "latencies of equal batches; run ardx bench on both with the same --sets"
        )
    labels = labels_of(new) if is_paired else None
    return Change(
        is_paired=is_paired,
        is_same_device=_machine(old) == _machine(new),
        accuracies=accuracies,
        classes=_classes(old, new, common, margin, is_paired),
        latencies=told,
        only_old=tuple(name for name in _attacks(old) if name not in common),
        only_new=tuple(name for name in _attacks(new) if name not in common),
        in_worst_case=tuple(name for name in common if name not in alike),
        labels=None if labels is None else tuple(labels.tolist()),
        class_names=class_names(new),
        pictures=pictures,
        pictures_apart=apart,
    )


def _attacks(report: Report) -> dict[str, object]:
    """By name what was run; the same name with another budget is another attack."""
    return {s.name: s.manifest.attack for s in report.sets}


def _common(old: Report, new: Report) -> tuple[list[str], list[str]]:
    """Attacks of both, for the worst case and one by one.

    One on what other attacks had left met other images where those others differ. In a worst case
    with all of those others it is the same as one on all images, and no more than that.
    """
    before, now = ({s.name: s.manifest for s in report.sets} for report in (old, new))
    common = [name for name in before if name in now and before[name].attack == now[name].attack]
    names = [{s.name for s in adversarial(report)} for report in (old, new)]
    has_all = names[0] == names[1] and names[0] <= set(common)
    alike = [name for name in common if _met_the_same(before[name], now[name], has_all)]
    return (common if has_all else alike), alike


def _met_the_same(before: SetManifest, now: SetManifest, has_all: bool) -> bool:
    """Did an attack see the same images in both reports; `has_all` as the attacks before it did?"""
    is_stored = bool(now.arrays) and before.arrays == now.arrays
    return is_stored or (before.attacked == now.attacked and (has_all or now.attacked == "all"))


def _in_worst_case(report: Report, names: list[str]) -> list[str]:
    return [s.name for s in adversarial(report) if s.name in names]


def _machine(report: Report) -> tuple[object, ...]:
    device, backend = report.device, report.backend
    return device.device, device.board, device.cpu, device.power_mode, backend.name, backend.threads


def _require_same_task(old: Report, new: Report) -> None:
    datasets = [next((s.manifest.dataset for s in report.sets), None) for report in (old, new)]
    if None not in datasets and datasets[0] != datasets[1]:
        raise InputError(
            f"the two reports are of other datasets, {datasets[0]} and {datasets[1]}; a difference "
            "of their accuracies says nothing: compare reports of one dataset"
        )


def worst_case(report: Report, names: list[str]) -> BoolArray | None:
    """Right on the clean image and under each set of these names; None without any."""
    names = _in_worst_case(report, names)
    if report.clean_mask is None or not names:
        return None
    mask = decode_mask(report.clean_mask)
    for result in report.sets:
        if result.name in names:
            mask = mask & decode_mask(result.mask)
    return mask


def _accuracies(
    old: Report, new: Report, common: list[str], alike: list[str], margin: float, is_paired: bool
) -> Iterator[AccuracyChange]:
    if old.clean_mask is None or new.clean_mask is None:
        return
    at = np.arange(len(new.clean_mask)) if is_paired else None
    yield compare_accuracy(
        "clean", decode_mask(old.clean_mask), decode_mask(new.clean_mask), margin, at
    )
    worst = worst_case(old, common), worst_case(new, common)
    if worst[0] is not None and worst[1] is not None:
        yield compare_accuracy("worst_case", worst[0], worst[1], margin, at)
    masks = [{s.name: decode_mask(s.mask) for s in report.sets} for report in (old, new)]
    for name in alike:
        yield compare_accuracy(f"attack:{name}", masks[0][name], masks[1][name], margin, at)


def _classes(
    old: Report, new: Report, common: list[str], margin: float, is_paired: bool
) -> tuple[AccuracyChange, ...]:
    labels = [labels_of(new) if is_paired else labels_of(old), labels_of(new)]
    masks = [_headline_mask(report, common) for report in (old, new)]
    if labels[0] is None or labels[1] is None or masks[0] is None or masks[1] is None:
        return ()
    found = []
    # Two tasks may have the same classes in another order.
    before = class_names(new if is_paired else old)
    numbers = {name: label for label, name in before.items()}
    for label, name in class_names(new).items():
        if name not in numbers:
            continue
        of_class = [labels[0] == numbers[name], labels[1] == label]
        if of_class[0].any() and of_class[1].any():
            at: NDArray[np.int64] | None = np.flatnonzero(of_class[1]) if is_paired else None
            parts = masks[0][of_class[0]], masks[1][of_class[1]]
            found.append(compare_accuracy(f"class:{name}", *parts, margin, at))
    order = [change.metric for change in found]
    return tuple(sorted(corrected(found), key=lambda change: order.index(change.metric)))


def _headline_mask(report: Report, common: list[str]) -> BoolArray | None:
    if report.clean_mask is None:
        return None
    worst = worst_case(report, common)
    return decode_mask(report.clean_mask) if worst is None else worst
