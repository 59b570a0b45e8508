"""An explanation for people: a row for each layer, with a bar, and one sentence."""

from __future__ import annotations

from math import log10

from edge_bench.explain.departures import Difference, Explanation

HEADER = ["layer", "difference, rms", "largest", "moved", "rounding explains", ""]
BAR = 12
SMALLEST, LARGEST = 1e-3, 1e3
"""Of what a layer may differ by, over what rounding explains: the ends of its bar."""


def rows(explanation: Explanation) -> list[list[str]]:
    """A row for each layer, in the order in which they are computed."""
    return [
        [
            layer.layer,
            f"{layer.rms:.2g} {unit(layer)}",
            f"{layer.most:.2g}",
            f"{100 * layer.moved:.1f} %",
            f"{layer.allowed_rms:.2g}, {layer.allowed_most:.2g}",
            bar(layer),
        ]
        for layer in explanation.layers
    ]


def unit(layer: Difference) -> str:
    """What differences of a layer are counted in."""
    return "steps" if layer.quantised else "SD"


def bar(layer: Difference) -> str:
    """How far a layer is beyond what rounding explains: half a bar is just as far; logarithmic."""
    share = max(layer.rms / layer.allowed_rms, layer.most / layer.allowed_most)
    if not share:
        return ""
    place = log10(min(max(share, SMALLEST), LARGEST) / SMALLEST) / log10(LARGEST / SMALLEST)
    return "#" * max(1, round(BAR * place)) + (" departs" if layer.departs else "")


def sentence(explanation: Explanation) -> str:
    """Which layer departs first, by how much; or that none does."""
    here, there = explanation.backend, explanation.validated_with
    between = f"{here.name} {here.version} and {there.name} {there.version}, which validated it"
    first = explanation.first
    if first is None:
        largest = max(explanation.layers, key=lambda layer: layer.most / layer.allowed_most)
        told = (
            f"no layer departs beyond what rounding explains between {between}: the largest "
            f"difference, in {largest.layer}, is {largest.most:.2g} {unit(largest)}"
        )
    else:
        told = (
            f"the first layer that departs is {first.layer}: between {between}, it differs by "
            f"{first.rms:.2g} {unit(first)} (rms), {first.most:.2g} at most, in "
            f"{100 * first.moved:.1f} % of its values, where rounding explains "
            f"{first.allowed_rms:.2g} and {first.allowed_most:.2g}"
        )
    if not explanation.same_logits:
        told += (
            "; where the artefact was exported, its probe gave other logits than the artefact "
            "itself, so that layers may be computed otherwise in it"
        )
    return told
