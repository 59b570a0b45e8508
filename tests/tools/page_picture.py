"""Draw docs/report.png: the top of a page that `ardx report` wrote, as Chromium shows it.

make demo
.venv/bin/ardx report demo/reports/student-int8.json --html demo/report.html
.venv/bin/python -m tests.tools.page_picture demo/report.html docs/report.png
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from shutil import which

from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1120, "height": 1420}


def draw(page: Path, out: Path) -> None:
    """The top of a page on a desktop, in light colours."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": SIZE["width"], "height": SIZE["height"]}, color_scheme="light"
        )
        opened = context.new_page()
        opened.goto(page.absolute().as_uri())
        picture = Image.open(BytesIO(opened.screenshot())).convert("RGB")
        browser.close()
    # A page has few colours, and a repository keeps every picture for ever.
    picture.quantize(64).save(out, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
