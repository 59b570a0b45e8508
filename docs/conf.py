"""How Sphinx builds the pages: `make docs`. Warnings are errors there, broken links among them."""

from __future__ import annotations

import sys
from pathlib import Path

# For the extensions beside this file, which are no part of the distribution.
sys.path.insert(0, str(Path(__file__).parent))

from edge_bench import __version__

project = "ardx"
version = release = __version__
html_title = f"ardx {__version__}"
html_theme = "furo"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_line",
    "docstrings",
    "registries",
]
default_role = "code"
# It makes one dash of the two that an option begins with.
smartquotes = False
myst_enable_extensions = ["colon_fence"]
# Every heading down to the third level can be linked to, as on the pages of GitHub.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

exclude_patterns = ["_build"]
