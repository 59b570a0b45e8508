"""What a page is made of, whatever it is written as: text, tables, and figures with their tables.

Whatever comes from a report is text: `shown` before it stands anywhere, and escaped by what writes
it. Names of classes and sets may be markup, control characters, or pages long.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_NAME = 72
"""Characters; a sha256 has 64."""
LISTED = 40
"""Samples that a list of indices names."""

Row = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under a header; the first cell of a row names it."""

    caption: str
    header: Row
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing as SVG, and the same as a table for who does not see it.

    Attributes:
        title: what is drawn.
        description: what is to be seen in it, in a sentence.
        svg: the drawing; the title and the description are in it.
        table: the numbers drawn.
    """

    title: str
    description: str
    svg: str
    table: Table


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A class and, where the report tells it, how sure the artefact was of it."""

    name: str
    confidence: str | None


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One sample that flipped: pictures as `data:` addresses, and what was said of them."""

    title: str
    label: str
    clean: str
    perturbed: str
    difference: str
    before: Answer | None
    after: Answer | None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A figure that stands on its own."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a page, in reading order: paragraphs, headlines, points, figures, tables, tiles.

    Attributes:
        key: its anchor.
        points: sentences of a list.
    """

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    headlines: tuple[Headline, ...] = ()
    points: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    tiles: tuple[Tile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that is told of one or more reports."""

    title: str
    sections: tuple[Section, ...]


def shown(text: str) -> str:
    """A text of a file without characters that draw nothing, turn the line, or move the cursor."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= LONGEST_NAME else plain[: LONGEST_NAME - 1] + "…"


def percent(fraction: float) -> str:
    """`41.2 %`."""
    return f"{100 * fraction:.1f} %"


def interval(low: float, high: float) -> str:
    """`38.1 to 44.4 %`."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def number(value: float) -> str:
    """Four digits, and no powers of ten where a figure is large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def size(count: int) -> str:
    """Bytes in the unit that fits."""
    if count < 10 * 2**20:
        return f"{count / 2**10:,.0f} KiB"
    return f"{count / 2**20:,.1f} MiB"


def listed(indices: list[int]) -> str:
    """Indices of samples for a cell of a table."""
    text = ", ".join(map(str, indices[:LISTED]))
    more = len(indices) - LISTED
    return f"{text} and {more:,} more" if more > 0 else text or "none"
