"""Links of README and its companions lead somewhere; those within docs are checked by Sphinx."""

from __future__ import annotations

import re

from .pages import FENCE, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_links_of_the_root_pages_lead_to_files() -> None:
    broken = []
    for page in sorted(ROOT.glob("*.md")):
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            path, _, anchor = target.partition("#")
            if not target.startswith(("http://", "https://")) and not (ROOT / path).is_file():
                broken.append(f"{page.name}: {target}")
            elif anchor and path.endswith(".md"):
                headings = re.findall(r"^#+ (.*)", (ROOT / path).read_text("utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
                if anchor not in slugs:
                    broken.append(f"{page.name}: {target}")
    assert not broken


def test_the_readme_is_short_and_says_that_no_licence_is_chosen() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    assert "No licence has been chosen yet." in readme
