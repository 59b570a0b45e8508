"""How time and memory grow with images and classes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

from benchmarks.replay.memory import measure as benched
from benchmarks.speed.finding import Asked, Case, Finding, alone
from benchmarks.speed.subjects import page, ranking

TITLE = "Growth"
SECONDS = 48.0
ABOUT = """The steepest exponent between two neighbouring sizes, by median seconds: 1 is linear,
and what a command costs before its first image makes it less. Images: `bench` replays sets of 3 x
8 x 8 images on a linear classifier; `gate`, `compare` and `report` read reports of drawn answers.
Classes: all ranking losses, 128 rows. Memory is the largest resident size of `bench`."""
LEFT = """All pairs of classes are C^2 of them, in tiles that fit a cache: the exponent of the
ranking of all classes is 2 by its definition, from where pairs outweigh the calls. `ranking.top`
ranks the teacher's likeliest m classes, B m^2 pairs whatever C is. What `bench` keeps of an image
is what the artefact said of it: six bytes a set, their text in the report, and its numbers while
they are checked. The bar is that of masks alone."""

MOST, MOST_BYTES = 1.05, 8.0
IMAGES = (1_000, 10_000, 100_000, 1_000_000)
CLASSES = (10, 100, 1_000)
ROWS, TOP = 128, 50


def cases(asked: Asked) -> dict[str, Case]:
    """By what grows."""
    images = IMAGES[:2] if asked.quick else IMAGES
    classes = CLASSES[:2] if asked.quick else CLASSES
    return {
        f"images, {images[0]:,} to {images[-1]:,}": partial(_images, images, asked.turns),
        f"classes, {classes[0]} to {classes[-1]:,}": partial(_classes, classes, asked.turns),
    }


def steepest(by_size: Mapping[int, float]) -> float:
    """The largest slope of log seconds over log size between neighbours."""
    points = [(math.log(size), math.log(took)) for size, took in sorted(by_size.items())]
    return max(
        (later - former) / (more - fewer) for (fewer, former), (more, later) in pairwise(points)
    )


def _exponent(rival: str, by_size: Mapping[int, Sequence[float]], note: str = "") -> Finding:
    middles = {size: statistics.median(values) for size, values in by_size.items()}
    told = ", ".join(f"{value:.3g}" for value in middles.values())
    found = steepest(middles)
    note = "; ".join(part for part in (f"{told} s", note) if part)
    turns = len(next(iter(by_size.values())))
    return Finding(
        rival=rival, how="exponent", value=found, bar=MOST, unit="", turns=turns, note=note
    )


def _images(sizes: tuple[int, ...], turns: int) -> list[Finding]:
    few = min(turns, 2)  # A million images take some seconds.
    ended = {size: [benched(size)["ended"] for _ in range(few)] for size in sizes}
    found = [_exponent("`bench`", {n: [took for _, took in of] for n, of in ended.items()})]
    peaks = [max(peak for peak, _ in ended[size]) for size in (sizes[0], sizes[-1])]
    more = (peaks[1] - peaks[0]) / (sizes[-1] - sizes[0])
    # Fewer images drown in pages.
    bar = MOST_BYTES if sizes[-1] == IMAGES[-1] else None
    found.append(alone([more], rival="memory of `bench`, bytes an image", bar=bar, unit="bytes"))
    of_reports = {size: page.timed(size, few) for size in (sizes[0], *sizes[-2:])}
    for name in page.COMMANDS:
        by_size = {n: [took for took, _ in of[name]] for n, of in of_reports.items()}
        found.append(_exponent(f"`{name}`", by_size))
    return found


def _classes(sizes: tuple[int, ...], turns: int) -> list[Finding]:
    found = []
    for words, top in (("all classes ranked", 0), (f"top {TOP} ranked", TOP)):
        by_size = {size: ranking.seconds_of(ROWS, size, turns, top) for size in sizes}
        found.append(_exponent(words, by_size))
    return found
