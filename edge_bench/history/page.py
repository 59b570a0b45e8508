"""A history as one self-contained page."""

from __future__ import annotations

from edge_bench.core.errors import CapabilityError
from edge_bench.history.picture import TITLE, as_svg
from edge_bench.history.series import Series
from edge_bench.history.told import header, rows, sentence

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5 }
body { max-width: 70rem; margin: 0 auto; padding: 1rem }
figure { margin: 0; background: #fff; overflow-x: auto }
figure svg { display: block; width: 100%; height: auto; min-width: 34rem }
.table { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem; text-align: right; white-space: nowrap }
th, td { border-bottom: 1px solid #8886 }
th:first-child, td:first-child { text-align: left }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<figure tabindex="0">{{ svg }}</figure>
{% for one in history %}
<h2>{{ one.name }}</h2>
<p>{{ one.sentence }}.</p>
<div class="table" tabindex="0" role="region" aria-label="{{ one.name }}">
<table>
<thead><tr>{% for name in one.header %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in one.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endfor %}
<p>A change is marked where it survives Holm's correction for the comparisons of its series, at
95%.</p>
</main>
</body>
</html>
"""


def as_html(history: list[Series]) -> str:
    """The picture, and its figures as tables.

    Raises:
        CapabilityError: Jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ImportError:
        raise CapabilityError("--html: needs Jinja2; pip install 'ardx[report]'") from None
    told = [
        {"name": s.name, "sentence": sentence(s), "header": header(s), "rows": rows(s)}
        for s in history
    ]
    page = Environment(autoescape=True).from_string(PAGE)
    # The picture is matplotlib's own markup, which escapes the texts in it.
    svg = Markup(as_svg(history))  # noqa: S704
    return page.render(title=TITLE, svg=svg, history=told) + "\n"
