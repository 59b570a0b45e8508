"""Samples that flipped, side by side: clean, perturbed, the difference enlarged, and the words."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_bench.core.errors import InputError
from edge_bench.core.series import series_array
from edge_bench.core.spec import Answers, Report
from edge_bench.files.sets import AdversarialSet, as_unit
from edge_bench.page.parts import Answer, Section, Tile, shown
from edge_bench.page.robust import turned
from edge_bench.statistics.metrics import class_names

TILES = 60
EXACT = 32
"""Sides in pixels up to which a picture is stored as it is."""
LARGEST = 72
BUDGET = 640_000
"""Characters of all pictures together: they are most of a page, which is to stay below 1 MB."""
TITLE = "Samples that flipped"


def gallery_section(report: Report, sets: list[AdversarialSet]) -> Section:
    """Up to 60 samples that are right unattacked and wrong under an attack, of all sets in turn."""
    if not sets:
        text = "No pictures: give --sets with the folder of the sets that bench replayed."
        return Section(key="gallery", title=TITLE, paragraphs=(text,))
    tiles = _tiles(report, sets)
    if not tiles:
        text = "No sample flipped under a replayed set."
        return Section(key="gallery", title=TITLE, paragraphs=(text,))
    flips = sum(int(mask.sum()) for mask in turned(report).values())
    text = (
        f"{len(tiles)} of {flips:,} flips, of each replayed set in turn. Each shows the clean "
        "image, the perturbed one, and their difference around grey, enlarged until its largest "
        "change is black or white."
    )
    if report.clean_answers is None:
        text += " The report is of before ardx kept what was said of them."
    return Section(key="gallery", title=TITLE, paragraphs=(text,), tiles=tiles)


def _tiles(report: Report, sets: list[AdversarialSet]) -> tuple[Tile, ...]:
    """As many as the page has room for."""
    chosen = _chosen(report, sets)
    before = _answers(report, report.clean_answers, [index for _, index in chosen])
    after = {
        r.name: _answers(report, r.answers, [i for o, i in chosen if o.name == r.name])
        for r in report.sets
    }
    names, spent = class_names(report), 0
    tiles: list[Tile] = []
    for opened, index in chosen:
        said = before.get(index), after[opened.name].get(index)
        tile = _tile(opened, index, names, said)
        spent += len(tile.clean) + len(tile.perturbed) + len(tile.difference)
        if spent > BUDGET:
            break
        tiles.append(tile)
    return tuple(tiles)


def check_sets(report: Report, sets: list[AdversarialSet]) -> None:
    """Refuse sets that are none of those of the report.

    Raises:
        InputError: other clean images or labels, or no set of the same name and arrays.
    """
    if not sets:
        return
    if sets[0].images_sha256 != report.images_sha256:
        raise InputError(
            f"{sets[0].path}: expected the clean images of the report ({report.images_sha256}), "
            f"came {sets[0].images_sha256}; give the --sets that bench replayed"
        )
    arrays = {r.name: r.manifest.arrays for r in report.sets}
    for opened in sets:
        if arrays.get(opened.name) not in (None, opened.manifest.arrays):
            raise InputError(
                f"{opened.path}: is not the set of that name in the report, its arrays have other "
                "hashes; give the --sets that bench replayed"
            )
    if not any(opened.name in arrays for opened in sets):
        raise InputError(
            f"--sets: none of {', '.join(o.name for o in sets)} is in the report, which has "
            f"{', '.join(arrays) or 'no sets'}; give the --sets that bench replayed"
        )


def _chosen(report: Report, sets: list[AdversarialSet]) -> list[tuple[AdversarialSet, int]]:
    """Flips of each set, spread over its samples, one of each set after the other."""
    broken = turned(report)
    lists = []
    for opened in sets:
        if opened.name in broken:
            at = np.flatnonzero(broken[opened.name])
            spread = np.unique(np.linspace(0, len(at) - 1, min(TILES, len(at))).round().astype(int))
            lists.append([(opened, int(at[i])) for i in spread] if len(at) else [])
    longest = max(map(len, lists), default=0)
    turns = [items[turn] for turn in range(longest) for items in lists if turn < len(items)]
    return turns[:TILES]


def _tile(
    opened: AdversarialSet,
    index: int,
    names: dict[int, str],
    said: tuple[Answer | None, Answer | None],
) -> Tile:
    clean = as_unit(np.asarray(opened.clean[index : index + 1]))[0]
    perturbed = as_unit(np.asarray(opened.images[index : index + 1]))[0]
    change = perturbed - clean
    largest = max(float(np.abs(change).max()), 1 / 255)
    label = int(opened.labels[index])
    return Tile(
        title=f"{shown(opened.name)}, sample {index}",
        label=shown(names.get(label, str(label))),
        clean=_picture(clean),
        perturbed=_picture(perturbed),
        difference=_picture(0.5 + change / (2 * largest)),
        before=said[0],
        after=said[1],
    )


def _answers(report: Report, answers: Answers | None, indices: list[int]) -> dict[int, Answer]:
    """What was said of these samples; nothing where the report does not tell it."""
    if answers is None or not indices:
        return {}
    names = class_names(report)
    said, sure = series_array(answers.predicted), series_array(answers.confidence)
    return {
        index: Answer(
            name=shown(names.get(int(said[index]), str(said[index]))),
            confidence=f"{100 * int(sure[index]) / answers.CONFIDENCE_STEPS:.0f} %",
        )
        for index in indices
    }


def _picture(image: NDArray[Any]) -> str:
    """(C, H, W) in [0, 1] as a `data:` address: exact where it is small, else as JPEG."""
    from PIL import Image

    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    planes = levels.transpose(1, 2, 0) if len(levels) == 3 else levels[0]
    picture, file = Image.fromarray(np.ascontiguousarray(planes)), BytesIO()
    if max(picture.size) <= EXACT:
        picture.save(file, "PNG", optimize=True)
        return "data:image/png;base64," + b64encode(file.getvalue()).decode()
    picture.thumbnail((LARGEST, LARGEST))
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()
