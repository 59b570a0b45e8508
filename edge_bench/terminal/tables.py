"""How a table fits a terminal: words are shortened, figures never."""

from __future__ import annotations

from collections.abc import Sequence

LEAST_NAME, LEAST_WORD = 12, 6
"""Columns of a terminal that a name keeps, and another word."""
LONGEST_WORD = 24
"""A longer text is a sentence or a command to copy: half of it is of no use."""


def widths_in(header: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Widths of the columns of a table in `room` columns of a terminal; None where it cannot fit.

    The widest column of words gives way first.
    """
    from rich.cells import cell_len

    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [
        min(_least(cells, LEAST_WORD if index else LEAST_NAME, bool(index)), widths[index])
        for index, (_, *cells) in enumerate(columns)
    ]
    # A box without lines still has a blank at each edge, between columns, and around each cell.
    room -= 3 * len(columns) + 1
    while sum(widths) > room:
        slack = [width - kept for width, kept in zip(widths, least, strict=True)]
        if max(slack) == 0:
            return None
        index = max(range(len(widths)), key=lambda i: (slack[i] > 0) * widths[i])
        widths[index] -= 1
    return widths


def _least(cells: Sequence[str], floor: int, has_figures: bool) -> int:
    """What a column needs: all of its figures and long texts, and the begin of its words."""
    from rich.cells import cell_len

    whole = [
        cell_len(cell)
        for cell in cells
        if has_figures and (any(map(str.isdigit, cell)) or cell_len(cell) > LONGEST_WORD)
    ]
    return max([floor, *whole])


def as_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The same for a terminal too narrow for a table: a line for each cell."""
    lines = []
    for first, *others in rows:
        lines.append(first)
        lines += [f"  {name}: {cell}" for name, cell in zip(header[1:], others, strict=True)]
    return lines
