"""A Sphinx directive, `registry NAME`: the entries of a registry as a table.

So a new attack is on its page as soon as it has its entry, and nobody types a list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ard.attacks.registry import ATTACKS, Attack
from ard.crafting.corruptions import CORRUPTIONS, Strength
from ard.data.registry import DATASETS
from ard.methods.registry import INNER, METHODS
from ard.models.architectures import ARCHITECTURES, DEFAULT_WIDTHS
from deploy.quantization.targets import TARGETS
from edge_bench.backends.registry import BACKENDS
from edge_bench.devices import DEVICES
from edge_bench.pictures.pipelines import PIPELINES


class Listing(NamedTuple):
    """A table: its header, and rows whose first cell is a name."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def _attacks() -> Listing:
    rows = [
        [
            name + ("N" if attack.steps else ""),
            _asks(attack),
            f"{attack.steps}" if attack.steps else "its own",
            "yes" if attack.aims else "",
            attack.distribution or "ardx",
            attack.source,
        ]
        for name, attack in ATTACKS.items()
    ]
    return Listing(["name", "asks for", "steps", "aims", "computed by", "source"], rows)


def _asks(attack: Attack) -> str:
    """What an attack is given to climb."""
    if attack.parts:
        return " then ".join(attack.parts)
    asked = "gradients" if attack.uses_gradients else "scores"
    return f"{asked} of a pair" if attack.differential else asked


def _corruptions() -> Listing:
    def told(strengths: tuple[Strength, ...]) -> str:
        return "; ".join(", ".join(f"{value:g}" for value in each) for each in strengths)

    rows = [[name, told(kind.small), told(kind.large)] for name, kind in CORRUPTIONS.items()]
    return Listing(["name", "up to 48 pixels, severity 1 to 5", "above"], rows)


def _methods() -> Listing:
    rows = [
        [
            name,
            "distill" if method.distils else "teach",
            INNER[method.inner].text if method.inner else "no attack",
            method.source,
        ]
        for name, method in METHODS.items()
    ]
    return Listing(["name", "of", "its attack in training ascends", "source"], rows)


def _inner() -> Listing:
    rows = [[n, i.text, "yes" if i.needs_teacher else ""] for n, i in INNER.items()]
    return Listing(["name", "ascends", "needs a teacher"], rows)


def _datasets() -> Listing:
    rows = [[name, entry.files or "comes with a package"] for name, entry in DATASETS.items()]
    return Listing(["name", "its files in --data-dir"], rows)


def _architectures() -> Listing:
    rows = [
        [name, f"{DEFAULT_WIDTHS[name]}" if name in DEFAULT_WIDTHS else ""]
        for name in ARCHITECTURES
    ]
    return Listing(["name", "width, where it takes one"], rows)


LISTINGS: dict[str, Callable[[], Listing]] = {
    "architectures": _architectures,
    "attacks": _attacks,
    "backends": lambda: Listing(
        ["--backend", "is", "comes by"], [[n, r.text, r.mend] for n, r in BACKENDS.items()]
    ),
    "corruptions": _corruptions,
    "datasets": _datasets,
    "devices": lambda: Listing(["name", "is"], [[n, d.text] for n, d in DEVICES.items()]),
    "inner": _inner,
    "methods": _methods,
    "pipelines": lambda: Listing(
        ["--pipeline", "is", "comes by"], [[n, p.text, p.mend] for n, p in PIPELINES.items()]
    ),
    "targets": lambda: Listing(["name", "is made of"], [[n, t.why] for n, t in TARGETS.items()]),
}


class Registry(SphinxDirective):
    """The table of the registry that the argument names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table."""
        name = self.arguments[0]
        if name not in LISTINGS:
            raise self.error(f"registry {name}: expected one of {', '.join(LISTINGS)}")
        return [table_of(LISTINGS[name]())]


def table_of(listing: Listing) -> nodes.table:
    """A table whose first column is code."""
    width = len(listing.header)
    group = nodes.tgroup(cols=width)
    group += [nodes.colspec(colwidth=1) for _ in range(width)]
    head = nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in listing.header))
    group += nodes.thead("", head)
    group += nodes.tbody("", *map(_row, listing.rows))
    return nodes.table("", group)


def _row(cells: Sequence[str]) -> nodes.row:
    first, *rest = cells
    name = nodes.paragraph("", "", nodes.literal("", first))
    return nodes.row(
        "", *(nodes.entry("", p) for p in (name, *(nodes.paragraph(text=c) for c in rest)))
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("registry", Registry)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
