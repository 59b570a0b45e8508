"""Drawings as inline SVG by matplotlib: the same bytes for the same values.

Colours become variables of the page's style, so that dark and light are the page's matter, and
styles become attributes, so that the page's policy can forbid inline styles. Text stays text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.7
"""Inches of 72 points: about the width of a phone, so that letters are as large as the text's."""
LONGEST_TICK, LONGEST_LEGEND = 24, 56
"""Letters of a name beside an axis, and below one."""
# Stand-ins that matplotlib draws with, and what each becomes.
INK, SOFT, GRID, GROUND = "#010101", "#020202", "#030303", "#040404"
TONES = tuple(f"#0501{index:02d}" for index in range(6))
VARIABLES = {INK: "--ink", SOFT: "--soft", GRID: "--line", GROUND: "--card"} | {
    tone: f"--tone-{index}" for index, tone in enumerate(TONES)
}
BASE, BAD, THIRD = TONES[:3]
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ardx",
    "text.parse_math": False,
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.unicode_minus": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": GRID,
    "legend.frameon": False,
    "path.simplify_threshold": 1.0,
}
STYLE = re.compile(r' style="([^"]*)"')
FONT = re.compile(r"(?:font-size:|font:)[^;]*?([\d.]+)px")
NAMED = re.compile(r' id="([^"]+)"')
PRESENTATION = {
    *("fill", "fill-opacity", "opacity", "stroke", "stroke-dasharray", "stroke-dashoffset"),
    *("stroke-linecap", "stroke-linejoin", "stroke-opacity", "stroke-width", "text-anchor"),
}

Bar = tuple[str, float, float, float]
"""A label, a value, and the ends of its interval."""
Line = tuple[str, Sequence[float], Sequence[float]]
"""A name, and the coordinates of its points."""


class Drawing:
    """Axes to draw on, and after the `with` the SVG of them."""

    axes: Axes
    svg = ""


@contextmanager
def drawing(title: str, description: str, key: str, height: float) -> Iterator[Drawing]:
    """Axes of `height` inches for a drawing whose names in the page begin with `key`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    found = Drawing()
    # matplotlib warns of letters that its own fonts lack; those of the page may have them.
    settings: Any = SETTINGS  # Its keys are one type of 300 words.
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        found.axes = figure.add_subplot()
        found.axes.spines[["top", "right"]].set_visible(False)
        found.axes.set_axisbelow(True)
        yield found
        text = StringIO()
        nobody = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nobody)
    found.svg = _inline(text.getvalue(), title, description, key)


def bars(title: str, description: str, key: str, rows: Sequence[Bar]) -> str:
    """Fractions as bars from the left, each with its interval."""
    with drawing(title, description, key, 0.65 + 0.3 * len(rows)) as drawn:
        axes, places = drawn.axes, range(len(rows))
        values = [100 * value for _, value, _, _ in rows]
        tones = [BASE if name != "worst case" else BAD for name, *_ in rows]
        axes.barh(places, values, 0.62, color=tones)
        around = [
            [max(0.0, 100 * (value - low)) for _, value, low, _ in rows],
            [max(0.0, 100 * (high - value)) for _, value, _, high in rows],
        ]
        axes.errorbar(
            values, places, xerr=around, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3
        )
        axes.set_yticks(places, [_short(name) for name, *_ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy, % (line: 95% interval)")
        axes.grid(axis="x", linewidth=0.6)
    return drawn.svg


def pairs(title: str, description: str, key: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """Two fractions a row, joined: clean and worst case of each class."""
    with drawing(title, description, key, 0.85 + 0.26 * len(rows)) as drawn:
        axes, places = drawn.axes, range(len(rows))
        clean = [100 * value for _, value, _ in rows]
        worst = [100 * value for _, _, value in rows]
        axes.hlines(places, worst, clean, color=GRID, linewidth=2.5)
        axes.plot(clean, places, "o", color=BASE, markersize=6, label="clean")
        axes.plot(worst, places, "D", color=BAD, markersize=5.5, label="worst case")
        axes.set_yticks(places, [_short(name) for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x", linewidth=0.6)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, borderaxespad=0.1)
    return drawn.svg


def histogram(
    title: str,
    description: str,
    key: str,
    edges: Sequence[float],
    counts: Sequence[int],
    marks: Sequence[tuple[str, float]],
    axes_names: tuple[str, str] = ("ms a call", "calls"),
) -> str:
    """How often values lay between `edges`, with named values marked."""
    with drawing(title, description, key, 2.5) as drawn:
        axes = drawn.axes
        axes.stairs(counts, edges, fill=True, color=BASE)
        for index, (name, value) in enumerate(marks):
            axes.axvline(
                value,
                color=(INK, BAD, THIRD)[index % 3],
                linewidth=1.3,
                linestyle=("-", "--", ":")[index % 3],
                label=f"{name} {value:.3g}",
            )
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        axes.set_xlim(edges[0], edges[-1])
        if marks:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, borderaxespad=0.1)
    return drawn.svg


def lines(
    title: str,
    description: str,
    key: str,
    series: Sequence[Line],
    axes_names: tuple[str, str],
    *,
    spans: Sequence[tuple[str, float, float]] = (),
    marks: Sequence[float] = (),
    band: tuple[Sequence[float], Sequence[float]] | None = None,
) -> str:
    """Values over time; `spans` are named parts of it, `marks` moments, `band` around the first."""
    with drawing(title, description, key, 2.7) as drawn:
        axes = drawn.axes
        for index, (name, begin, end) in enumerate(spans):
            axes.axvspan(begin, end, color=GRID, alpha=0.35 if index % 2 == 0 else 0.7, linewidth=0)
            axes.text(
                (begin + end) / 2,
                1.0,
                name,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=SOFT,
            )
        if band is not None:
            axes.fill_between(series[0][1], *band, color=BASE, alpha=0.25, linewidth=0)
        for index, (name, x, y) in enumerate(series):
            axes.plot(
                x,
                y,
                color=TONES[index % len(TONES)],
                linewidth=1.4,
                label=name,
                linestyle=("-", "--", "-.", ":")[index // len(TONES) % 4],
            )
        for index, moment in enumerate(marks):
            axes.axvline(
                moment,
                color=BAD,
                linewidth=1.6,
                linestyle="--",
                label="throttled" if index == 0 else None,
            )
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        axes.grid(axis="y", linewidth=0.6)
        if len(series) > 1 or marks or band is not None:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, fontsize=7.5)
    return drawn.svg


def trade_off(
    title: str, description: str, key: str, points: Sequence[tuple[str, Bar, Bar]]
) -> str:
    """A point per report: latency (ms) from left to right, accuracy upwards, with intervals."""
    with drawing(title, description, key, 3.1) as drawn:
        axes = drawn.axes
        for index, (name, (_, x, left, right), (_, y, low, high)) in enumerate(points):
            axes.errorbar(
                [x],
                [100 * y],
                xerr=[[max(0.0, x - left)], [max(0.0, right - x)]],
                yerr=[[max(0.0, 100 * (y - low))], [max(0.0, 100 * (high - y))]],
                fmt="osD^vP"[index % 6],
                color=TONES[index % len(TONES)],
                capsize=3,
                label=_short(name, LONGEST_LEGEND),
            )
        axes.set_xlabel("median latency, ms a call (95% interval)")
        axes.set_ylabel("worst-case accuracy, %")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(linewidth=0.6)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1, fontsize=7.5)
    return drawn.svg


def _short(name: str, longest: int = LONGEST_TICK) -> str:
    """Both ends of a name that is too long: names of one kind differ at either of them."""
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end]}…{name[-end:]}"


def _inline(text: str, title: str, description: str, key: str) -> str:
    """An SVG file as a part of a page: titled, in the page's colours, with names of its own."""
    body = text[text.index("<svg") :]
    head, body = body[: body.index(">") + 1], body[body.index(">") + 1 :]
    (box,) = re.findall(r'viewBox="([^"]+)"', head)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = STYLE.sub(_attributes, body)
    for colour, variable in VARIABLES.items():
        body = body.replace(f'"{colour}"', f'"var({variable})"')
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = NAMED.sub(lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", body).replace("xlink:href", "href")
    body = re.sub(r"<g>\s*</g>", "", re.sub(r"\n\s*", "\n", body))
    return (
        f'<svg role="img" aria-labelledby="{key}-title {key}-desc" viewBox="{box}">'
        f'<title id="{key}-title">{escape(title)}</title>'
        f'<desc id="{key}-desc">{escape(description)}</desc>{body}'
    )


def _attributes(found: re.Match[str]) -> str:
    """The declarations of a style as attributes; the page's style sets the fonts."""
    kept = {}
    for part in found[1].split(";"):
        name, _, value = part.strip().partition(": ")
        if name in PRESENTATION:
            kept[name] = value
    if size := FONT.search(found[1]):
        kept["font-size"] = size[1]
    return "".join(f' {name}="{value}"' for name, value in kept.items())
