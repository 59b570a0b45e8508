"""Make the tables of docs/results/int8_threats.md from the lines of finished attacks.

    python -m benchmarks.int8_threats.report            writes them
    python -m benchmarks.int8_threats.report --check    exits 1 where the lines say otherwise

They replace what stands between `<!-- table NAME -->` and `<!-- end -->`; sentences with figures
stand after `<!-- text NAME -->`. Intervals are 95 %: of an accuracy Wilson's; of a loss that can
only be one (a worst case is a part of what it is the worst of) Clopper and Pearson's; of any other
difference the percentile bootstrap over samples.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks import command
from benchmarks.documents import Maker, markdown, update
from benchmarks.int8_threats.run import ARTEFACTS, ATTACKS, LINES, MORE, SQUARES, jobs
from benchmarks.lines import RESULTS, Line, read_lines, unpack
from edge_bench.statistics.metrics import BoolArray
from edge_bench.statistics.stats import mcnemar_p_value, wilson_interval

IntArray = NDArray[np.int64]
Masks = dict[str, dict[str, BoolArray]]
"""By artefact, then by attack, its parts and the ensembles of ENSEMBLES."""

CONTROL = "fp32"
CONFIDENCE = 0.95
REPLAYS = tuple(f"replay {attack}" for attack in ATTACKS)
BPDA = tuple(f"bpda {attack}" for attack in ATTACKS)
BPDA_MORE = tuple(f"bpda {attack}" for attack in MORE)
TRANSFERS = tuple(f"transfer {name}" for name in ARTEFACTS)
WORST = "worst case"

ENSEMBLES: dict[str, tuple[str, ...]] = {
    "replay, all four": REPLAYS,
    "BPDA, the same four": BPDA,
    "BPDA, all six": (*BPDA, *BPDA_MORE),
    "transfer": TRANSFERS,
    WORST: ("clean", *REPLAYS, *BPDA, *BPDA_MORE, *TRANSFERS, *SQUARES),
}
"""Right under all of these, where the artefact has them."""

ROWS = ("clean", *REPLAYS, "replay strongest", "replay, all four", *BPDA)
ROWS += ("BPDA, the same four", "BPDA, all six", "transfer", *SQUARES, WORST)


def main(
    lines: Annotated[Path, typer.Option(help="Lines of finished attacks.")] = LINES,
    document: Annotated[Path, typer.Option(help="Document with the tables.")] = (
        RESULTS / "int8_threats.md"
    ),
    check: Annotated[bool, typer.Option("--check", help="Compare, write nothing.")] = False,
) -> None:
    """Fill in the tables of the document."""
    update(document, maker(read(lines)), check=check)


def read(path: Path) -> list[Line]:
    """All lines, of one model over one choice of images."""
    found = read_lines(path)
    subjects = {(line["parent_sha256"], line["images_sha256"], line["epsilon"]) for line in found}
    names = [(line["artefact"], line["label"]) for line in found]
    if len(subjects) != 1 or len(set(names)) != len(names):
        raise ValueError(f"{path}: expected one line per artefact and attack, of one model")
    artefacts, labels = list(ARTEFACTS), [job.label for job in jobs()]
    return sorted(
        found, key=lambda line: (artefacts.index(line["artefact"]), labels.index(line["label"]))
    )


def maker(lines: list[Line]) -> Maker:
    """How each table, and each text with figures in it, is made."""

    def make(kind: str, name: str) -> str:
        return markdown(TABLES[name](lines)) if kind == "table" else wrapped(TEXTS[name](lines))

    return make


def wrapped(text: str) -> str:
    """Lines as long as those of the documents."""
    return textwrap.fill(text, 100, break_on_hyphens=False)


def masks_of(lines: list[Line], kind: str = "grid") -> Masks:
    """Masks by how images were judged: right when clean and under the attack."""
    found: Masks = {name: {} for name in ARTEFACTS}
    for line in lines:
        # What was made on the grid is judged there alone.
        known = kind if kind in line["masks"] else "grid"
        found[line["artefact"]][line["label"]] = unpack(line, known)
    for masks in found.values():
        for label in masks:
            masks[label] = masks[label] & masks["clean"]
        for label, parts in ENSEMBLES.items():
            masks[label] = all_of(masks, parts)
    return found


def all_of(masks: dict[str, BoolArray], parts: tuple[str, ...]) -> BoolArray:
    """Right when clean and under every part that was run."""
    return reduce(np.logical_and, (masks[part] for part in parts if part in masks), masks["clean"])


def artefacts_table(lines: list[Line]) -> list[list[str]]:
    """The artefacts, and what rounding alone does to clean images."""
    masks = masks_of(lines)
    rows = [["artefact", "KiB", "clean", "right only in it", "right only in fp32", "McNemar p"]]
    for line in (line for line in lines if line["threat"] == "clean"):
        name = line["artefact"]
        more, less = discordant(masks[name]["clean"], masks[CONTROL]["clean"])
        versus = ["", "", ""]
        if name != CONTROL:
            versus = [str(more), str(less), p_value(more, less)]
        rows.append([name, f"{line['bytes'] / 1024:.0f}", rate(masks[name]["clean"]), *versus])
    return rows


def accuracy_table(lines: list[Line]) -> list[list[str]]:
    """Accuracy and its interval by attack and artefact."""
    masks = masks_of(lines)
    rows = [["right under", *masks]]
    for label in ROWS:
        cells = [rate(of[label]) for of in masks.values()]
        rows.append([named(label), *cells])
    return rows


def overstatement_table(lines: list[Line]) -> list[list[str]]:
    """Points by which a replay's figure lies above what is left in the worst case."""
    masks = masks_of(lines)
    rows = [["the figure of", "minus", *masks, *(f"{n} minus fp32" for n in masks if n != CONTROL)]]
    pairs = [("replay pgd20", WORST), ("replay cw30", WORST), ("replay apgd_t", WORST)]
    pairs += [("replay strongest", WORST), ("replay, all four", WORST)]
    pairs += [("replay, all four", "BPDA, the same four"), ("replay, all four", "BPDA, all six")]
    pairs += [("BPDA, all six", WORST), *((square, WORST) for square in SQUARES)]
    for figure, less in pairs:
        differences = {name: over(of, figure, less) for name, of in masks.items()}
        nested = less == WORST
        cells = [loss(each) if nested else difference(each) for each in differences.values()]
        control = differences[CONTROL]
        cells += [difference(d - control) for name, d in differences.items() if name != CONTROL]
        rows.append([named(figure), named(less), *cells])
    return rows


def over(masks: dict[str, BoolArray], figure: str, less: str) -> IntArray:
    """(N,) for each sample 1 where only `figure` calls it robust, -1 where only `less` does."""
    return masks[figure].astype(np.int64) - masks[less].astype(np.int64)


def parents_table(lines: list[Line]) -> list[list[str]]:
    """Samples that only the artefact keeps, and that only the FP32 one keeps."""
    masks = masks_of(lines)
    others = [name for name in masks if name != CONTROL]
    rows = [["right under", *others]]
    for label in ROWS:
        cells = []
        for name in others:
            theirs, ours = masks[name][label], masks[CONTROL][label]
            more, less = discordant(theirs, ours)
            change = difference(theirs.astype(np.int64) - ours.astype(np.int64))
            cells.append(f"+{more} -{less}: {change}, p {p_value(more, less)}")
        rows.append([named(label), *cells])
    return rows


def found_table(lines: list[Line]) -> list[list[str]]:
    """Samples that one kind of attack breaks and another one does not."""
    masks = masks_of(lines)
    rows = [["samples that are", *masks]]
    kinds = ("replay, all four", "BPDA, the same four")
    broken = [[discordant(of[kinds[1]], of[kinds[0]]) for of in masks.values()]]
    counts = broken[0]
    rows.append(["broken by replay, not by BPDA, the same four", *(str(a) for a, _ in counts)])
    rows.append(["broken by BPDA, the same four, not by replay", *(str(b) for _, b in counts)])
    rows.append(["McNemar p of these two", *(p_value(a, b) for a, b in counts)])
    for label, others in ALONE.items():
        cells = []
        for of in masks.values():
            rest = all_of(of, tuple(part for part in ENSEMBLES[WORST] if part not in others))
            cells.append(str(int((rest & ~of[WORST]).sum())))
        rows.append([f"broken by {label} alone", *cells])
    return rows


ALONE: dict[str, tuple[str, ...]] = {
    "replay": REPLAYS,
    "BPDA": (*BPDA, *BPDA_MORE),
    "transfer from other artefacts": TRANSFERS,
    "Square": SQUARES,
}


def rounding_table(lines: list[Line]) -> list[list[str]]:
    """What rounding to the 8-bit grid takes off an attack, and what it adds."""
    on_grid, floats = masks_of(lines), masks_of(lines, "float")
    rows = [["broken as floats, right when rounded; the reverse", *ARTEFACTS]]
    labels = (*REPLAYS, "replay strongest", "replay, all four", *BPDA, "BPDA, the same four")
    for label in labels:
        pairs = [discordant(on_grid[name][label], floats[name][label]) for name in ARTEFACTS]
        rows.append([named(label), *(f"{back}; {more}" for back, more in pairs)])
    return rows


def floats_table(lines: list[Line]) -> list[list[str]]:
    """The same four attacks where images are floats, which no camera gives."""
    masks = masks_of(lines, "float")
    figures = ("replay, all four", "BPDA, the same four")
    rows = [["as floats", *masks]]
    rows += [[named(label), *(rate(of[label]) for of in masks.values())] for label in figures]
    apart = [over(of, *figures) for of in masks.values()]
    rows.append(["the first minus the second", *(difference(each) for each in apart)])
    control = apart[list(masks).index(CONTROL)]
    rows.append(["that minus fp32's", *(difference(each - control) for each in apart)])
    rows[-1][1 + list(masks).index(CONTROL)] = ""
    return rows


def square_table(lines: list[Line]) -> list[list[str]]:
    """What Square asked."""
    rows = [["artefact", "queries", "attacked", "broken", "asked in all", "median", "most"]]
    for line in (line for line in lines if line["label"] in SQUARES):
        asked = line["queries"]
        broken = line["attacked"] - int(unpack(line, "grid").sum())
        rows.append(
            [
                f"{line['artefact']}, {named(line['label'])}",
                f"{line['spec']['steps']:,}",
                str(line["attacked"]),
                str(broken),
                f"{asked['all']:,}",
                ""
                if asked["median to break one"] is None
                else f"{asked['median to break one']:,.0f}",
                f"{asked['most to break one']:,}",
            ]
        )
    return rows


TABLES: dict[str, Callable[[list[Line]], list[list[str]]]] = {
    "artefacts": artefacts_table,
    "accuracy": accuracy_table,
    "overstatement": overstatement_table,
    "parents": parents_table,
    "found": found_table,
    "rounding": rounding_table,
    "floats": floats_table,
    "square": square_table,
}


def setting(lines: list[Line]) -> str:
    """Where the figures were made, and on what."""
    first = lines[0]
    packages = next(
        line["versions"] for line in lines if "pyautoattack" in line.get("versions", {})
    )
    versions = f"pyautoattack {packages['pyautoattack']}, numpy {packages['numpy']}"
    commits = ", ".join(sorted({line["commit"] for line in lines}))
    return (
        f"{first['images']} stratified test images, L-inf {255 * first['epsilon']:.3g}/255; "
        f"{first['machine']}, {first['runtime'].replace('ort', 'onnxruntime')}, {versions}, "
        f"Python {packages['python']}; commit {commits}."
    )


def headline(lines: list[Line]) -> str:
    """The overstatement in one sentence."""
    masks = masks_of(lines)
    int8 = [name for name in masks if name != CONTROL]
    ensemble, alone = (
        {name: over(of, figure, WORST) for name, of in masks.items()}
        for figure in ("replay, all four", "replay apgd_t")
    )
    each = listed([f"{loss(ensemble[name])} for `{name}`" for name in int8])
    single = listed([f"{100 * alone[name].mean():.1f}" for name in int8])
    return (
        f"On {lines[0]['images']} CIFAR-10 test images, replaying four sets crafted on the FP32 "
        f"weights overstates the worst case of an INT8 artefact, in points, by {each} (95% "
        f"intervals); replaying the APGD-T set alone, by {single}. The same on the FP32 "
        f"artefact, attacked alike: {loss(ensemble[CONTROL])} and "
        f"{100 * alone[CONTROL].mean():.1f}."
    )


def listed(parts: list[str]) -> str:
    """a, b and c."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


TEXTS: dict[str, Callable[[list[Line]], str]] = {"setting": setting, "headline": headline}


def named(label: str) -> str:
    """A label as tables write it."""
    for short, long in (("bpda ", "BPDA "), ("apgd_ce", "APGD-CE"), ("apgd_t", "APGD-T")):
        label = label.replace(short, long)
    label = re.sub(r"pgd(\d+)", r"PGD-\1", label)
    label = re.sub(r"cw(\d+)", r"CW-\1", label)
    return f"**{label}**" if label == WORST else label.replace("square", "Square")


def discordant(first: BoolArray, second: BoolArray) -> tuple[int, int]:
    """Samples that only the first, and only the second mask holds."""
    return int((first & ~second).sum()), int((second & ~first).sum())


def p_value(more: int, less: int) -> str:
    """Two-sided exact McNemar test."""
    p = mcnemar_p_value(more, less)
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def rate(mask: BoolArray) -> str:
    """An accuracy in percent with its interval."""
    low, high = wilson_interval(int(mask.sum()), len(mask), CONFIDENCE)
    return f"{100 * mask.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


def loss(lost: IntArray) -> str:
    """Points of accuracy that are lost by samples (N,) of 0 or 1, with their interval."""
    assert (lost >= 0).all(), "a worst case keeps nothing that its parts lost"
    interval = binomtest(int(lost.sum()), len(lost)).proportion_ci(CONFIDENCE, method="exact")
    return f"{100 * lost.mean():.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def difference(values: IntArray) -> str:
    """Points of accuracy of which sample values (N,) are the difference, with their interval."""
    low, high = bootstrap_interval(values)
    return f"{100 * values.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def bootstrap_interval(values: IntArray) -> tuple[float, float]:
    """Percentile bootstrap of the mean of whole numbers (N,), without drawing any.

    The sum of N draws with replacement from small whole numbers has a distribution that is the
    N-fold convolution of theirs: the limit of infinitely many bootstrap draws. Where all values
    are 0 that is a point, and the limits are those of a count of 0 (Clopper and Pearson).
    """
    count = len(values)
    if not values.any():
        most = float(binomtest(0, count).proportion_ci(CONFIDENCE, method="exact").high)
        return -most, most
    least = int(values.min())
    single = np.bincount(values - least) / count
    # A power of the transform is the transform of the convolution.
    size = count * (len(single) - 1) + 1
    powered = np.fft.rfft(single, n=size) ** count
    cumulated = np.cumsum(np.fft.irfft(powered, n=size))
    tail = (1 - CONFIDENCE) / 2
    sums = [int(np.searchsorted(cumulated, level)) + count * least for level in (tail, 1 - tail)]
    return sums[0] / count, sums[1] / count


if __name__ == "__main__":
    command.run(main)
