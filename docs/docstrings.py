"""A Sphinx extension that reads the docstrings of this project, which are plain text, as such.

Between backticks stands code (`default_role` in conf.py), a bar is a bar, and what is indented
after a blank line is shown as it is written: a formula, a listing. In reStructuredText it would be
a quotation.
"""

from __future__ import annotations

from sphinx.application import Sphinx

# Before napoleon, which indents the sections of a docstring itself.
BEFORE_NAPOLEON = 100


def keep_layout(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Mark indented blocks as literal ones, in place."""
    kept: list[str] = []
    margin = 0
    within = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip():
            within = within and indent > margin
            if not within:
                within = indent > margin and bool(kept) and not kept[-1]
                if within:
                    kept += [" " * margin + "::", ""]
                else:
                    margin = indent
        kept.append(line.rstrip() if within else line.rstrip().replace("|", "\\|"))
    lines[:] = kept


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to autodoc."""
    app.connect("autodoc-process-docstring", keep_layout, priority=BEFORE_NAPOLEON)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
