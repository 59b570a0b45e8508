"""The tables of the way from file to logits, from the lines of `benchmarks.changed.path`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.changed.path import AS_THEY_ARE, CRAFTED, NOISE, WAYS
from benchmarks.lines import Line, read_lines, unpack
from edge_bench.core.pictures.walked import CARD
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import paired_difference_interval, wilson_interval

Walked = dict[tuple[str, str, str], Line]
"""Lines by artefact, kind of pictures and way."""
CHOSEN = "chosen"


def walked(lines: Path) -> dict[str, Walked]:
    """All lines by network; the last of each."""
    networks: dict[str, Walked] = {}
    for line in read_lines(lines):
        found = networks.setdefault(short(line["architecture"]), {})
        found[line["artefact"], line["kind"], line["way"]] = line
    return networks


def short(architecture: str) -> str:
    """An architecture without the module that it is imported from."""
    module, _, name = architecture.rpartition(":")
    return name if "." in module else architecture


def setting(found: Walked) -> str:
    """On what the lines were made."""
    lines = list(found.values())
    many = {line["kind"]: line["images"] for line in lines}
    machines = sorted({line["machine"] for line in lines})
    return (
        f"{many[AS_THEY_ARE]} pictures of {lines[0]['dataset']}, to {lines[0]['preprocessing']}; "
        f"{many[CRAFTED]} of them attacked; {lines[0]['architecture']}; {'; '.join(machines)}; "
        f"commits {', '.join(sorted({line['commit'] for line in lines}))}."
    )


def gap_rows(found: Walked) -> Iterator[list[str]]:
    """By artefact and way: accuracy, gap, and who gets another class."""
    yield ["artefact", "way", "accuracy", "path gap", "McNemar's pairs", "other class"]
    for artefact in artefacts(found):
        card = found.get((artefact, AS_THEY_ARE, CARD))
        if card is None:
            continue
        parent, ours = unpack(card, "parent"), unpack(card, "artefact")
        against = [*_gap(parent, ours), _share(unpack(card, "differ"))]
        yield [f"`{artefact}`", "card's, beside the weights on it", _share(ours), *against]
        for way in WAYS:
            line = found.get((artefact, AS_THEY_ARE, way))
            if line is None or way == CARD:
                continue
            mine = unpack(line, "artefact")
            cells = [_share(mine), *_gap(ours, mine), _share(unpack(line, "moved"))]
            yield [f"`{artefact}`", way, *cells]


def crafted_rows(found: Walked) -> Iterator[list[str]]:
    """By artefact and way: accuracy on the same pictures, attacked and not."""
    yield ["artefact", "way", "unattacked", NOISE, CRAFTED]
    for artefact in artefacts(found):
        for way in WAYS:
            lines = [found.get((artefact, kind, way)) for kind in (CHOSEN, NOISE, CRAFTED)]
            if any(line is None for line in lines):
                continue
            cells = [_share(unpack(line, "artefact")) for line in lines if line is not None]
            yield [f"`{artefact}`", way, *cells]


def artefacts(found: Walked) -> list[str]:
    """In the order of the lines."""
    return list(dict.fromkeys(artefact for artefact, _, _ in found))


def _gap(before: BoolArray, after: BoolArray) -> list[str]:
    """Points with their paired interval, and the two counts of discordant pictures."""
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    low, high = (100 * end for end in paired_difference_interval(lost, won, len(after)))
    gap = 100 * (won - lost) / len(after)
    return [f"{gap:+.1f} ({low:+.1f} to {high:+.1f})", f"{lost} lost, {won} won"]


def _share(mask: BoolArray) -> str:
    low, high = wilson_interval(int(mask.sum()), len(mask))
    return f"{100 * mask.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"
