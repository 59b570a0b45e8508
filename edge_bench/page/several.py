"""Several reports on one page: artefacts, boards and backends beside each other."""

from __future__ import annotations

from collections import Counter

from edge_bench.core.spec import Report
from edge_bench.page.charts import trade_off
from edge_bench.page.facts import (
    CLEAN,
    WORST,
    by_set,
    clean,
    energies,
    lacking,
    latency,
    worst,
)
from edge_bench.page.parts import Figure, Row, Section, Table, interval, percent, shown, size
from edge_bench.page.verdict import budget, device_named, named, verdict

Named = tuple[str, Report]


def names_of(reports: list[Report]) -> list[str]:
    """A name for each report: its artefact, and as much more as it takes to tell them apart."""
    words = [(named(r), r.backend.name, device_named(r)) for r in reports]
    for count in (1, 2, 3):
        found = [", ".join(told[:count]) for told in words]
        if len(set(found)) == len(found):
            return found
    return [f"{name} ({index})" for index, name in enumerate(found, 1)]


def comparison_section(reports: list[Report]) -> Section:
    """Robust accuracy against latency, and all figures side by side."""
    them = list(zip(names_of(reports), reports, strict=True))
    images = {report.images_sha256 for report in reports}
    alike = (
        "All were asked about the same images."
        if len(images) == 1 and None not in images
        else "They were not all asked about the same images, so differences of accuracy are also "
        "differences of images."
    )
    attacks = [{s.name: s.manifest.attack for s in report.sets} for report in reports]
    if any(found != attacks[0] for found in attacks):
        common = [
            name for name, spec in attacks[0].items() if all(f.get(name) == spec for f in attacks)
        ]
        which = f"only {', '.join(map(shown, common))} in common" if common else "none in common"
        alike += (
            f" They were not attacked alike, with {which}, so a worst case that looks better may "
            "only have met less."
        )
    tables = [_side_by_side(them)]
    if any(report.sets for report in reports):
        tables.append(_by_attack(them))
    return Section(
        key="comparison",
        title="Comparison",
        paragraphs=(_told(them), alike),
        figures=_trade_off(them),
        tables=tuple(tables),
    )


def each_section(reports: list[Report]) -> Section:
    """The verdict on each report by itself."""
    them = zip(names_of(reports), reports, strict=True)
    return Section(
        key="each",
        title="Each report",
        paragraphs=("A page of one report tells all of it: ardx report REPORT --html PAGE.",),
        points=tuple(
            verdict(report) if name == named(report) else f"{name}: {verdict(report)}"
            for name, report in them
        ),
    )


def _told(them: list[Named]) -> str:
    """Which is most robust, and which is fastest."""
    robust = [(fact.value, name, fact) for name, r in them if (fact := worst(r))]
    sentence = _fastest(them)
    if not robust:
        return f"No report has a robust accuracy. {sentence}"
    value = max(found for found, _, _ in robust)
    names = [name for found, name, _ in robust if found == value]
    low = min(fact.low or 0 for found, _, fact in robust if found == value)
    near = [name for found, name, fact in robust if found < value and (fact.high or 0) >= low]
    near_told = ", ".join(near)
    if len(names) == 1:
        first = f"{names[0]} is most robust"
        apart = f"; its interval overlaps that of {near_told}" if near else ""
    else:
        first = f"{', '.join(names[:-1])} and {names[-1]} are equally robust"
        apart = f"; their intervals overlap that of {near_told}" if near else ""
    return f"{first}, with {percent(value)} in the worst case{apart}. {sentence}"


def _fastest(them: list[Named]) -> str:
    """Which is fastest, of each batch size by itself: a call of 32 images is another thing."""
    of: dict[int, list[tuple[float, str]]] = {}
    for name, report in them:
        fact = latency(report.latency, 0.5)
        of.setdefault(report.latency.batch_size, []).append((fact.value, name))
    told = []
    for batch_size, found in sorted(of.items()):
        median, name = min(found)
        ms = f"a median of {median:.3g} ms a call"
        if len(of) == 1:
            return f"{name} is fastest, with {ms}."
        alone = f"{name} alone was timed" if len(found) == 1 else f"{name} is fastest"
        told.append(f"of batch {batch_size} {alone}, with {ms}")
    return f"They were not timed alike: {'; '.join(told)}."


def _batches(them: list[Named]) -> dict[str, str]:
    """The batch size of each report's latency, by its name; empty words where all are alike."""
    sizes = {name: report.latency.batch_size for name, report in them}
    alike = len(set(sizes.values())) == 1
    return {name: "" if alike else f"batch {size}" for name, size in sizes.items()}


def _trade_off(them: list[Named]) -> tuple[Figure, ...]:
    points, rows, batches = [], [], _batches(them)
    for name, report in them:
        batch = batches[name]
        robust, median = worst(report), latency(report.latency, 0.5)
        if robust is None:
            continue
        x = ("", median.value, median.low or median.value, median.high or median.value)
        y = ("", robust.value, robust.low or 0.0, robust.high or 1.0)
        # The batch first: long names are cut.
        points.append((f"{batch}: {name}" if batch else name, x, y))
        rows.append(
            (
                name,
                f"{median.value:.4g} ms{batch and ', '}{batch}",
                f"{x[2]:.4g} to {x[3]:.4g} ms",
                percent(robust.value),
                interval(y[2], y[3]),
            )
        )
    if not points:
        return ()
    title = "Worst-case accuracy against latency"
    faster = "left is faster" + (" within one batch size" if any(batches.values()) else "")
    description = f"Up is more robust and {faster}; lines are 95% intervals"
    svg = trade_off(title, description, "trade-off", points)
    header = ("report", "median latency", "95% interval", "worst case", "95% interval of that")
    table = Table(caption=title, header=header, rows=tuple(rows))
    return (Figure(title=title, description=description, svg=svg, table=table),)


def _side_by_side(them: list[Named]) -> Table:
    rows: list[Row] = []
    batches = _batches(them)
    for name, report in them:
        accuracies = [percent(f.value) if f else "-" for f in (clean(report), worst(report))]
        energy = next(iter(energies(report)), None)
        card = report.artifact.card
        rows.append(
            (
                name,
                card.precision if card else "-",
                device_named(report),
                report.backend.name,
                *accuracies,
                _p95(report, batches[name]),
                f"{energy.value:.3g} mJ" if energy else "-",
                size(report.artifact.size_bytes),
            )
        )
    header = ("report", "precision", "board", "backend", "clean", "worst case", "p95", "energy")
    return Table(caption="Side by side", header=(*header, "size"), rows=tuple(rows))


def _p95(report: Report, batch: str) -> str:
    few = "too few calls" if lacking(report.latency, 0.95) else ""
    notes = [note for note in (batch, few) if note]
    return ", ".join([f"{latency(report.latency, 0.95).value:.4g} ms", *notes])


def _by_attack(them: list[Named]) -> Table:
    """A row for each attack; sets of one name are of one attack where their budgets agree."""
    reports = [report for _, report in them]
    found = [
        {
            (s.name, budget(s.manifest.attack)): fact
            for s, fact in zip(report.sets, by_set(report), strict=True)
        }
        for report in reports
    ]
    keys = list(dict.fromkeys(key for facts in found for key in facts))
    names = Counter(name for name, _ in keys)
    rows = [
        (CLEAN, list(map(clean, reports))),
        *(
            (
                f"{shown(key[0])}, {key[1]}" if names[key[0]] > 1 else shown(key[0]),
                [facts.get(key) for facts in found],
            )
            for key in keys
        ),
        (WORST, list(map(worst, reports))),
    ]
    told = [(name, *(percent(f.value) if f else "-" for f in facts)) for name, facts in rows]
    header = ("images", *(name for name, _ in them))
    return Table(caption="Accuracy by attack", header=header, rows=tuple(told))
