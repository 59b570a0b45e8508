"""Sections of accuracy: by attack, by class, and which samples changed."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.series import series_array
from edge_bench.core.spec import Report
from edge_bench.page.charts import bars, histogram, pairs
from edge_bench.page.facts import Fact, accuracies, per_class, worst
from edge_bench.page.parts import Figure, Row, Section, Table, interval, listed, percent, shown
from edge_bench.statistics.metrics import (
    BoolArray,
    adversarial,
    class_names,
    decode_mask,
    labels_of,
)

DRAWN_ATTACKS, DRAWN_CLASSES, CONFUSIONS = 24, 24, 12
LEFT_OUT = "No set was replayed: bench was given no --sets."


def attacks_section(report: Report) -> Section:
    """Accuracy by attack with its interval, drawn and as a table."""
    found = accuracies(report)
    if not found:
        return Section(key="attacks", title="Accuracy by attack", paragraphs=(LEFT_OUT,))
    rows = tuple(
        (shown(fact.name), percent(fact.value), _around(fact), f"{fact.samples:,}")
        for fact in found
    )
    title = "Accuracy by attack"
    lowest = min(found, key=lambda fact: fact.value)
    description = (
        f"Bars from {percent(found[0].value)} clean down to {percent(lowest.value)} "
        f"({shown(lowest.name)}), each with its 95% interval"
    )
    drawn = found if len(found) <= DRAWN_ATTACKS else [*found[: DRAWN_ATTACKS - 1], found[-1]]
    svg = bars(
        title,
        description,
        "attacks",
        [(shown(f.name), f.value, f.low or 0.0, f.high or 0.0) for f in drawn],
    )
    table = Table(
        caption="Accuracy by attack",
        header=("images", "accuracy", "95% interval", "samples"),
        rows=rows,
    )
    notes = ["No attack was replayed, so there is no worst case."]
    if worst(report) is not None:
        notes = [
            "The worst case counts a sample as right where it is right unattacked and under all."
        ]
        if beside := [shown(s.name) for s in report.sets if s.manifest.is_compared]:
            named = ", ".join(beside)
            notes.append(f"It leaves out what is no attack on this file alone: {named}.")
    if late := [shown(s.name) for s in report.sets if s.manifest.attacked == "survivors"]:
        notes.append(
            f"Tried only on what the attacks before left right, and counted together with them: "
            f"{', '.join(late)}."
        )
    return Section(
        key="attacks",
        title=title,
        paragraphs=tuple(notes),
        figures=(Figure(title=title, description=description, svg=svg, table=table),),
    )


def classes_section(report: Report) -> Section:
    """Clean and worst-case accuracy of each class; the worst class by name."""
    title, found = "Accuracy by class", per_class(report)
    if not found:
        why = (
            LEFT_OUT
            if report.clean_mask is None
            else "This report is of before ardx kept the class of each image: run bench again."
        )
        return Section(key="classes", title=title, paragraphs=(why,))
    attacked = [(of_clean, of_worst) for of_clean, of_worst in found if of_worst is not None]
    if not attacked:
        return _clean_classes(title, sorted((c for c, _ in found), key=lambda fact: fact.value))
    attacked.sort(key=lambda pair: (pair[1].value, pair[0].value))
    of_clean, of_worst = attacked[0]
    sentence = (
        f"The worst class is {shown(of_worst.name)}: {percent(of_worst.value)} of its "
        f"{of_worst.samples:,} images stay right in the worst case ({_around(of_worst)} at 95%), "
        f"of {percent(of_clean.value)} unattacked."
    )
    table = Table(
        caption="Accuracy by class, worst first",
        header=("class", "clean", "worst case", "95% interval of the worst case", "samples"),
        rows=tuple(
            (shown(w.name), percent(c.value), percent(w.value), _around(w), f"{w.samples:,}")
            for c, w in attacked
        ),
    )
    drawn = attacked[:DRAWN_CLASSES]
    rows = [(shown(c.name), c.value, w.value) for c, w in drawn]
    svg = pairs(title, sentence, "classes", rows)
    figure = Figure(title=title, description=sentence.rstrip("."), svg=svg, table=table)
    told = (sentence + _part(len(drawn), len(found)),)
    return Section(key="classes", title=title, paragraphs=told, figures=(figure,))


def _clean_classes(title: str, found: list[Fact]) -> Section:
    """Of a report without an attack, the least accurate class first."""
    least = found[0]
    sentence = (
        f"The least accurate class is {shown(least.name)}: {percent(least.value)} of its "
        f"{least.samples:,} images are right unattacked ({_around(least)} at 95%). No attack was "
        "replayed, so no class has a worst case."
    )
    table = Table(
        caption="Accuracy by class, unattacked, worst first",
        header=("class", "clean", "95% interval", "samples"),
        rows=tuple((shown(f.name), percent(f.value), _around(f), f"{f.samples:,}") for f in found),
    )
    drawn = found[:DRAWN_CLASSES]
    rows = [(shown(f.name), f.value, f.low or 0.0, f.high or 0.0) for f in drawn]
    svg = bars(title, sentence, "classes", rows)
    figure = Figure(title=title, description=sentence.rstrip("."), svg=svg, table=table)
    told = (sentence + _part(len(drawn), len(found)),)
    return Section(key="classes", title=title, paragraphs=told, figures=(figure,))


def _part(drawn: int, found: int) -> str:
    return f" The {drawn} worst of {found} are drawn." if drawn < found else ""


def changes_section(report: Report) -> Section:
    """Which samples an attack turned, by index, and from what to what."""
    title = "Which samples changed"
    if not adversarial(report):
        why = "No attack was replayed." if report.sets else LEFT_OUT
        return Section(key="changes", title=title, paragraphs=(why,))
    clean = decode_mask(report.clean_mask or "")
    broken = turned(report)
    by = np.sum(list(broken.values()), axis=0)
    sentence = (
        f"{int((by > 0).sum()):,} of the {int(clean.sum()):,} samples that are right unattacked "
        f"are turned by an attack, {int((by == len(broken)).sum()):,} by every one; "
        f"{int((~clean).sum()):,} were wrong before any attack."
    )
    rows = tuple(
        (
            shown(r.name),
            f"{int(broken[r.name].sum()):,}",
            f"{int((~clean & decode_mask(r.mask)).sum()):,}",
            listed(np.flatnonzero(broken[r.name]).tolist()),
        )
        for r in adversarial(report)
    )
    table = Table(
        caption="Samples turned by each attack",
        header=("attack", "turned wrong", "turned right", "index of those turned wrong"),
        rows=rows,
    )
    tables = (table, *([t] if (t := _confusions(report)) else []))
    return Section(
        key="changes",
        title=title,
        paragraphs=(sentence,),
        figures=_confidences(report),
        tables=tables,
    )


def turned(report: Report) -> dict[str, BoolArray]:
    """(N,) by attack: right unattacked, tried by this attack, and wrong under it."""
    clean = left = decode_mask(report.clean_mask or "")
    found = {}
    for result in adversarial(report):
        # The mask of an attack on survivors is '0' also where the others had won before.
        tried = left if result.manifest.attacked == "survivors" else clean
        stood = decode_mask(result.mask)
        found[result.name] = tried & ~stood
        left = left & stood
    return found


def _confusions(report: Report) -> Table | None:
    """The most frequent changes of class over all attacks."""
    labels, names = labels_of(report), class_names(report)
    told = [s for s in adversarial(report) if s.answers is not None]
    if labels is None or not told or report.clean_answers is None:
        return None
    before = series_array(report.clean_answers.predicted)
    counts: Counter[tuple[int, int]] = Counter()
    for result in told:
        assert result.answers is not None
        after = series_array(result.answers.predicted)
        at = (before == labels) & (after != labels)
        width = int(max(before.max(), after.max())) + 1
        found, often = np.unique(before[at] * width + after[at], return_counts=True)
        for code, count in zip(found.tolist(), often.tolist(), strict=True):
            counts[divmod(code, width)] += count
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]
    rows: list[Row] = [
        (shown(names.get(old, str(old))), shown(names.get(new, str(new))), f"{count:,}")
        for (old, new), count in first
    ]
    if not rows:
        return None
    return Table(
        caption="Most frequent changes over all attacks",
        header=("from the right class", "to", "times"),
        rows=tuple(rows),
    )


def _confidences(report: Report) -> tuple[Figure, ...]:
    """How sure the artefact is of its errors, under the attack that breaks most."""
    labels = labels_of(report)
    told = [s for s in adversarial(report) if s.answers is not None]
    if labels is None or not told:
        return ()
    worst = min(told, key=lambda result: result.mask.count("1"))
    assert worst.answers is not None
    wrong = series_array(worst.answers.predicted) != labels
    sure: NDArray[np.int64] = series_array(worst.answers.confidence)[wrong]
    if not len(sure):
        return ()
    edges = np.linspace(0, 100, 11)
    counts = np.histogram(sure / 100, edges)[0]
    title = f"Confidence in errors under {shown(worst.name)}"
    description = (
        f"Of {len(sure):,} errors half have a confidence of {np.median(sure) / 100:.0f} % or more"
    )
    svg = histogram(
        title,
        description,
        "confidence",
        edges.tolist(),
        counts.tolist(),
        [],
        ("confidence in the wrong class, %", "errors"),
    )
    rows = tuple(
        (f"{low:.0f} to {high:.0f} %", f"{count:,}")
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    )
    table = Table(caption=title, header=("confidence", "errors"), rows=rows)
    return (Figure(title=title, description=description, svg=svg, table=table),)


def _around(fact: Fact) -> str:
    assert fact.low is not None
    assert fact.high is not None
    return interval(fact.low, fact.high)
