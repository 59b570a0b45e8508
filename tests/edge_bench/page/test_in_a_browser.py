"""The page in Chromium: phone and desktop, light and dark, printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.spec import Report
from edge_bench.files.sets import open_sets
from edge_bench.page.render import as_html, page_of

from .conftest import Written

HEIGHT = 900
A4 = 718
"""Pixels of its width between margins of a centimetre."""


@pytest.fixture(params=["one", "several"])
def address(
    request: pytest.FixtureRequest,
    written: Written,
    make_report: Callable[..., Report],
    tmp_path: Path,
) -> str:
    """Where a page lies: of one report with all there is, or of several."""
    sets = open_sets(written.sets) if request.param == "one" else []
    others = [make_report("1101" * 9, {"pgd": "1001" * 9})] if request.param == "several" else []
    out = tmp_path / "page.html"
    out.write_text(as_html(page_of([written.report, *others], sets)), encoding="utf-8")
    return out.as_uri()


def opened(browser: Any, address: str, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page, and all that it said on the console or asked the network for."""
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
    page, heard = context.new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(address)
    return page, [word for word in heard if word != address and not word.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_is_silent_and_can_be_used_by_all(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe here: pip install 'ardx[dev]'"
    )
    page, heard = opened(browser, address, width, scheme)
    assert heard == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 22, 27)") == (scheme == "dark")
    # The colours of a drawing are the page's: none was left as matplotlib was told.
    fills = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill)"
    )
    assert set(fills) <= {
        "rgb(77, 89, 102)",
        "rgb(23, 32, 42)",
        "rgb(174, 184, 196)",
        "rgb(232, 236, 241)",
    }
    found = axe.Axe().run(page).response
    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    page.context.close()


def test_it_prints_with_all_of_every_table(browser: Any, address: str) -> None:
    page, heard = opened(browser, address, A4, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == A4
    cut = page.evaluate(
        "[...document.querySelectorAll('.wide')]"
        ".filter(e => e.scrollHeight > e.clientHeight + 1).length"
    )
    assert cut == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    assert heard == []
    page.context.close()
