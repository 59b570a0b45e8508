"""Pages of reports, and what they are written as: HTML, Markdown, CSV."""

from __future__ import annotations

import csv
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from importlib.resources import files
from io import StringIO
from xml.sax.saxutils import escape

from edge_bench.core.spec import Report
from edge_bench.core.version import __version__
from edge_bench.files.sets import AdversarialSet
from edge_bench.page.facts import Fact, all_facts
from edge_bench.page.gallery import check_sets, gallery_section
from edge_bench.page.lineage import doubts_section, lineage_section
from edge_bench.page.parts import Page, Section, Table, shown
from edge_bench.page.path import path_sections
from edge_bench.page.robust import attacks_section, changes_section, classes_section
from edge_bench.page.several import comparison_section, each_section, names_of
from edge_bench.page.speed import speed_section
from edge_bench.page.verdict import named, threats_section, verdict_section

CSV_HEADER = ("report", "metric", "of", "value", "low_95", "high_95", "unit", "samples")
MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~$@!])")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def page_of(reports: list[Report], sets: list[AdversarialSet]) -> Page:
    """The page of one report, or of several beside each other.

    Raises:
        InputError: `sets` are not those of the report.
    """
    if len(reports) > 1:
        sections = comparison_section(reports), each_section(reports)
        return Page(title=f"{len(reports)} reports side by side", sections=sections)
    (report,) = reports
    check_sets(report, sets)
    return Page(
        title=f"Robustness of {named(report)}",
        sections=(
            verdict_section(report),
            threats_section(report),
            attacks_section(report),
            classes_section(report),
            *path_sections(report),
            speed_section(report),
            changes_section(report),
            gallery_section(report, sets),
            lineage_section(report),
            doubts_section(report),
        ),
    )


def as_html(page: Page) -> str:
    """One file that asks nobody for anything, and whose policy forbids that and scripts.

    Raises:
        ModuleNotFoundError: Jinja2 is not installed.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined

    room = files("edge_bench.page")
    style = (room / "page.css").read_text(encoding="utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=DictLoader({"page": (room / "page.html.j2").read_text(encoding="utf-8")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page")
    return template.render(page=page, style=style, style_sha256=digest, version=__version__)


def as_markdown(page: Page) -> str:
    """The same without drawings and pictures."""
    return "\n".join(_markdown(page)).rstrip() + "\n"


def as_csv(reports: list[Report]) -> str:
    """A row per figure of each report; fractions, ms, bytes."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for name, report in zip(names_of(reports), reports, strict=True):
        writer.writerows(_csv_row(name, fact) for fact in all_facts(report))
    return text.getvalue()


def _csv_row(name: str, fact: Fact) -> list[str]:
    numbers = (fact.value, fact.low, fact.high)
    value, low, high = map(_number, numbers)
    words = [_cell(text) for text in (name, fact.metric, shown(fact.name))]
    return [*words, value, low, high, fact.unit, str(fact.samples or "")]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _cell(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(FORMULA) else text


def _markdown(page: Page) -> Iterator[str]:
    yield f"# {_plain(page.title)}\n"
    for section in page.sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield f"## {_plain(section.title)}\n"
    for paragraph in section.paragraphs:
        yield _plain(paragraph) + "\n"
    if section.headlines:
        rows = tuple((h.name, h.value, h.note) for h in section.headlines)
        yield from _table(Table(caption="", header=("figure", "value", "note"), rows=rows))
    if section.points:
        yield "\n".join(f"- {_plain(point)}" for point in section.points) + "\n"
    for figure in section.figures:
        yield from _table(figure.table)
    for table in section.tables:
        yield from _table(table)
    for tile in section.tiles:
        said = [
            f"{answer.name} ({answer.confidence})" for answer in (tile.before, tile.after) if answer
        ]
        yield f"- {_plain(tile.title)}: {_plain(tile.label)}; {_plain(' -> '.join(said))}"
    if section.tiles:
        yield ""


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield f"**{_plain(table.caption)}**\n"
    yield _row(table.header)
    yield _row("---" if index == 0 else "---:" for index in range(len(table.header)))
    for row in table.rows:
        yield _row(map(_plain, row))
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown does not take for markup."""
    return MARKDOWN.sub(r"\\\1", escape(text))
