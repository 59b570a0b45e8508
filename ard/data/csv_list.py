"""`csv:FILE`: pictures by a list of paths and labels.

The first line names the columns: `path` and `label`, and `split` where its owner parts the list;
others are not read. Commas part the fields, and Python's csv reads them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ard.data.folders import TEST, TEST_SHARE, TRAIN, VALIDATION, by_name
from ard.data.picture_files import pictures_of
from ard.data.splits import Dataset, Split
from edge_bench.core.classes import composed, in_order
from edge_bench.core.errors import InputError, first_line
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.files.store import require_file

COLUMNS = ("path", "label")
SPLIT = "split"
PARTS = {name: kind for kind in (TRAIN, TEST, VALIDATION) for name in kind}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A picture of the list: the line that names it, its class, and its part or ''."""

    line: int
    path: Path
    label: str
    part: str


def csv_list(file: Path, asked: str, preprocessing: Preprocessing | None) -> Dataset:
    """The pictures of a list; where it has no column `split`, a fifth of each class is the test.

    Args:
        asked: the value of --dataset, for sentences.

    Raises:
        InputError: no such file, not such a list, or a row that is wrong, by its line.
    """
    if not file.exists():
        raise InputError(
            f"{file}: no such list of pictures; check the path, or give the folder that holds it "
            "as --data-dir"
        )
    require_file(file, "a list of pictures in CSV")
    rows = list(_rows(file))
    if not rows:
        raise InputError(f"{file}: expected a picture on each line after the first, came none")
    names = in_order(sorted({row.label for row in rows}))
    told = ""
    if not any(row.part for row in rows):
        rows, told = _parted(rows, file)
    root = Path(os.path.commonpath([row.path.parent for row in rows]))
    parts: dict[str, Split] = {}
    for kind in (TRAIN, TEST, VALIDATION):
        chosen = [row for row in rows if row.part in kind]
        if chosen:
            labels = [names.index(row.label) for row in chosen]
            parts[kind[0]] = pictures_of([row.path for row in chosen], labels, root, preprocessing)
    train, test = parts.get(TRAIN[0]), parts.get(TEST[0])
    validation = parts.get(VALIDATION[0])
    if test is None:
        test, validation = validation, None
    if train is None or test is None:
        missing = "train" if train is None else "test (or val)"
        raise InputError(
            f"{file}: expected pictures of train and test in {SPLIT}, none is {missing}"
        )
    _require_classes_in_training(rows, names, file)
    _require_one_size(train, [test, validation], file)
    return Dataset(
        name=f"csv:{file.resolve().name}",
        train=train,
        test=test,
        validation=validation,
        classes=len(names),
        class_names=tuple(names),
        flips=True,
        skipped=told,
        preprocessing=preprocessing,
    )


def _rows(file: Path) -> Iterator[Row]:
    """The rows of a list, each checked; paths are relative to the file."""
    first: dict[Path, int] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            header = next(reader, [])
            places = _places(header, file)
            for fields in reader:
                if not fields:
                    continue
                row = _row(fields, len(header), places, file, reader.line_num)
                if row.path in first:
                    raise InputError(
                        f"{file}: line {row.line}: {fields[places['path']]} stands on line "
                        f"{first[row.path]}, too; take one out"
                    )
                first[row.path] = row.line
                yield row
    except UnicodeDecodeError:
        raise InputError(f"{file}: expected text in UTF-8; save it so") from None
    except csv.Error as error:
        raise InputError(f"{file}: not a list in CSV ({first_line(error)}); mend it") from None


def _places(header: list[str], file: Path) -> dict[str, int]:
    """Where the columns stand."""
    names = [name.strip() for name in header]
    wanted = [*COLUMNS, *([SPLIT] if SPLIT in names else [])]
    for name in wanted:
        if names.count(name) != 1:
            came = ", ".join(names)[:100] or "nothing"
            remedy = "; separate fields by commas" if len(names) == 1 and ";" in came else ""
            raise InputError(
                f"{file}: expected a first line that names the columns path and label once each "
                f"(and split, where there is one), came {came}{remedy}"
            )
    return {name: names.index(name) for name in wanted}


def _row(fields: list[str], width: int, places: dict[str, int], file: Path, line: int) -> Row:
    where = f"{file}: line {line}"
    if len(fields) != width:
        raise InputError(
            f"{where}: expected {width} fields, as the first line has, came {len(fields)}; put "
            "those with a comma in quotes"
        )
    text, label = (fields[places[name]].strip() for name in COLUMNS)
    if not text or not label:
        raise InputError(f"{where}: expected a path and a label, one is empty; fill it in")
    part = fields[places[SPLIT]].strip().lower() if SPLIT in places else ""
    if SPLIT in places and part not in PARTS:
        raise InputError(
            f"{where}: expected {', '.join((TRAIN[0], TEST[0], VALIDATION[0]))} as {SPLIT}, came "
            f"{fields[places[SPLIT]]!r}"
        )
    if "\0" in text:
        raise InputError(f"{where}: expected a path, came one with a NUL byte; write it anew")
    path = (file.parent / text).resolve()
    if not path.is_file():
        raise InputError(f"{where}: no file {path}; paths are relative to the list's folder")
    return Row(line=line, path=path, label=composed(label), part=part)


def _parted(rows: list[Row], file: Path) -> tuple[list[Row], str]:
    """The rows with their parts, by the pictures' names, and a line that says so."""
    # The list's own folder, which no picture that is added later moves.
    root = file.parent.resolve()
    test: set[Path] = set()
    for label in {row.label for row in rows}:
        paths = [row.path for row in rows if row.label == label]
        if len(paths) < 2:
            raise InputError(
                f"{file}: one picture of {label!r} cannot be in the training and in the test; add "
                "more of this class, or take it out"
            )
        test |= by_name(paths, root, max(1, round(len(paths) / TEST_SHARE)))
    parted = [
        Row(
            line=row.line,
            path=row.path,
            label=row.label,
            part=TEST[0] if row.path in test else TRAIN[0],
        )
        for row in rows
    ]
    return parted, (
        f"no column {SPLIT} in {file}: {len(test):,} of its {len(rows):,} pictures, a fifth of "
        "each class, are the test images; their names decide which"
    )


def _require_classes_in_training(rows: list[Row], names: Sequence[str], file: Path) -> None:
    """A class may be too rare for the other parts, but nothing learns one that it never sees."""
    found = {row.label for row in rows if row.part in TRAIN}
    missing = [name for name in names if name not in found]
    if found and missing:
        raise InputError(
            f"{file}: expected a training picture of every class, but no picture of {TRAIN[0]} is "
            f"of {missing[0]!r}; add some, or take this class out"
        )


def _require_one_size(train: Split, others: list[Split | None], file: Path) -> None:
    for other in others:
        if other is not None and other.image_shape != train.image_shape:
            raise InputError(
                f"{file}: pictures of {train.image_shape} and of {other.image_shape}; give "
                "--image-size"
            )
