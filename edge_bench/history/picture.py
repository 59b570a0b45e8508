"""A history as a picture: robust accuracy above, latency below, real changes marked."""

from __future__ import annotations

import re
import warnings
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from edge_bench.compare.accuracies import WORSE
from edge_bench.core.errors import CapabilityError
from edge_bench.core.markdown import plain
from edge_bench.history.series import REAL, Series
from edge_bench.history.told import figure, sentence, short
from edge_bench.statistics.path import PATH_ACCURACY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f5f8b", "#b3541e", "#3d7a3d", "#7a3d7a", "#555555")
BETTER_COLOUR, WORSE_COLOUR = "#1a7f37", "#c0392b"
MOST_LABELS, LONGEST_LABEL = 24, 32
TITLE = "Robust accuracy and latency over commits"


def as_svg(history: list[Series]) -> str:
    """The picture, with title and description; the same reports make the same bytes.

    Raises:
        CapabilityError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise CapabilityError(
            "a picture of the history needs matplotlib; pip install 'ardx[report]'"
        ) from None
    settings: Any = {
        "svg.hashsalt": "ardx",
        "svg.fonttype": "none",
        "font.size": 9,
        "text.parse_math": False,
    }
    # Names may be of letters that the fonts here lack; whoever shows the picture has others.
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        drawing = Figure(figsize=(9, 6), layout="constrained")
        accuracy, latency = drawing.subplots(2, 1, sharex=True)
        labels = list(dict.fromkeys(p.label for s in history for p in s.points))
        # In time, whichever series a commit is of.
        created = {p.label: p.report.created for s in reversed(history) for p in s.points}
        labels.sort(key=lambda label: created[label])
        for series, colour in zip(history, COLOURS * len(history), strict=False):
            at = [labels.index(point.label) for point in series.points]
            _accuracy(accuracy, series, at, colour)
            _latency(latency, series, at, colour)
        _finish(accuracy, latency, labels)
        text = StringIO()
        drawing.savefig(text, format="svg", metadata={"Date": None})
    return _described(text.getvalue(), ". ".join(sentence(series) for series in history))


def _accuracy(axes: Axes, series: Series, at: list[int], colour: str) -> None:
    known: list[tuple[int, float, float, float]] = []
    for x, point in zip(at, series.points, strict=True):
        worst = figure(point, "worst_case")
        interval = worst.interval(0.95) if worst.interval else None
        if worst.value is not None and interval is not None:
            value, low, high = (100 * v for v in (worst.value, *interval))
            known.append((x, value, value - low, high - value))
    if known:
        xs, ys, below, above = zip(*known, strict=True)
        axes.errorbar(
            xs,
            ys,
            yerr=[below, above],
            fmt="o-",
            color=colour,
            capsize=2,
            label=f"worst case: {series.name}",
        )
    for metric, line, name in (("clean", ":", "clean"), (PATH_ACCURACY, "--", "file to logits")):
        values = [(x, figure(p, metric).value) for x, p in zip(at, series.points, strict=True)]
        measured = [(x, 100 * value) for x, value in values if value is not None]
        if measured:
            label = f"{name}: {series.name}"
            axes.plot(*zip(*measured, strict=True), line, color=colour, label=label)
    for x, point, step in zip(at[1:], series.points[1:], series.steps, strict=True):
        if step.accuracy is not None and step.accuracy.verdict in REAL:
            height = figure(point, step.accuracy.metric).value or 0.0
            _mark(axes, x, 100 * height, step.accuracy.verdict)


def _latency(axes: Axes, series: Series, at: list[int], colour: str) -> None:
    for metric, line in (("latency_p95_ms", "o-"), ("latency_p50_ms", ":")):
        points = [(x, figure(p, metric)) for x, p in zip(at, series.points, strict=True)]
        known = [(x, f.value) for x, f in points if f.value is not None and not f.too_few]
        if known:
            name = "p95" if "95" in metric else "p50"
            axes.plot(*zip(*known, strict=True), line, color=colour, label=f"{name}: {series.name}")
    for x, step in zip(at[1:], series.steps, strict=True):
        if step.latency is not None and step.latency.verdict in REAL:
            _mark(axes, x, step.latency.new, step.latency.verdict)


def _mark(axes: Axes, x: int, y: float, verdict: str) -> None:
    worse = verdict == WORSE
    axes.plot(
        [x],
        [y],
        marker="v" if worse else "^",
        markersize=12,
        color=WORSE_COLOUR if worse else BETTER_COLOUR,
        markeredgecolor="white",
        linestyle="none",
        zorder=5,
        label="real change for the worse" if worse else "real change for the better",
    )


def _finish(accuracy: Axes, latency: Axes, labels: list[str]) -> None:
    accuracy.set_ylabel("accuracy, %")
    latency.set_ylabel("latency of one image, ms")
    latency.margins(y=0.15)
    latency.set_ylim(bottom=0)
    every = -(-len(labels) // MOST_LABELS)
    shown = range(0, len(labels), every)
    latency.set_xticks(list(shown))
    latency.set_xticklabels([_cut(short(labels[at])) for at in shown], rotation=45, ha="right")
    for axes in (accuracy, latency):
        axes.grid(alpha=0.3)
        handles: dict[Any, Any] = {}
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
        if handles:
            axes.legend(
                list(handles.values()),
                [_cut(plain(name)) for name in handles],
                fontsize=8,
                loc="upper left",
                bbox_to_anchor=(1, 1),
            )


def _cut(name: str) -> str:
    """A name that leaves room for the axes; tables have all of it."""
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"


def _described(svg: str, told: str) -> str:
    """The picture with its title and description, for who does not see it."""
    body = svg[svg.index("<svg") :]
    named = 'role="img" aria-labelledby="ardx-title ardx-desc"'
    head = (
        f'<title id="ardx-title">{escape(TITLE)}</title><desc id="ardx-desc">{escape(told)}</desc>'
    )
    return re.sub(r"<svg([^>]*)>", lambda match: f"<svg {named}{match[1]}>\n {head}", body, count=1)
