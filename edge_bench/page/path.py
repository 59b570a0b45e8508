"""The section of pictures that were walked from their files to logits."""

from __future__ import annotations

from edge_bench.core.spec import Report
from edge_bench.page.parts import Row, Section, Table, percent, shown
from edge_bench.report.path import NOT_GONE, PATH_HEADER, path_rows
from edge_bench.statistics.path import PathGap, path_gap, path_gaps


def path_sections(report: Report) -> tuple[Section, ...]:
    """Accuracy, stages and the path gap by class; no section where no pictures were walked."""
    walked = report.pictures
    if walked is None:
        return ()
    gap, by_class = path_gap(walked), path_gaps(walked)
    rows = [tuple(map(shown, row)) for row in path_rows(report)]
    tables = [Table(caption="From file to logits", header=tuple(PATH_HEADER), rows=tuple(rows))]
    if gap is not None and not gap.same_way:
        ordered = sorted(by_class.items(), key=lambda pair: (pair[1].gap, pair[0]))
        tables.append(
            Table(
                caption="Path gap by class, worst first",
                header=("class", "path gap", "95% interval", "other class", "samples"),
                rows=tuple(_row(name, each) for name, each in ordered),
            )
        )
    return (
        Section(
            key="path",
            title="From file to logits",
            paragraphs=(_sentence(shown(walked.pipeline), gap),),
            tables=tuple(tables),
        ),
    )


def _sentence(pipeline: str, gap: PathGap | None) -> str:
    if gap is None:
        return f"The path gap is not known: {NOT_GONE}."
    if gap.same_way:
        return "The pictures went the card's own way, as those of the training did."
    low, high = gap.interval()
    return (
        f"On the way of {pipeline} accuracy is {100 * gap.gap:+.1f} points away from that on the "
        f"card's way ({100 * low:+.1f} to {100 * high:+.1f} at 95%), over the same "
        f"{gap.samples:,} pictures; {percent(gap.changed / gap.samples)} of them get another class."
    )


def _row(name: str, gap: PathGap) -> Row:
    low, high = gap.interval()
    return (
        shown(name),
        f"{100 * gap.gap:+.1f} points",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        percent(gap.changed / gap.samples),
        f"{gap.samples:,}",
    )
