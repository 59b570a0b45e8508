"""`csv:FILE`: pictures by a list of paths and labels, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from ard.data.datasets import load_dataset
from ard.data.splits import Dataset
from edge_bench.core.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for i in range(12):
        folder = tmp_path / ("more" if i % 2 else ".")
        Image.new("RGB", (4, 4), (20 * i, 0, 0)).save(folder / f"{i}.png")
    return tmp_path


def name_of(i: int) -> str:
    return f"more/{i}.png" if i % 2 else f"{i}.png"


def write(root: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    file = root / "list.csv"
    file.write_bytes("\n".join(lines).encode(encoding))
    return file


def load(file: Path) -> Dataset:
    return load_dataset(f"csv:{file}", Path("unused"))


def test_a_list_with_its_parts_in_any_order_of_columns(root: Path) -> None:
    parts = ["train"] * 6 + ["Test"] * 4 + ["val"] * 2
    lines = ["label,width,split,path"]
    lines += [f'"{"cat, big" if i % 2 else "dog"}",4,{parts[i]},{name_of(i)}' for i in range(12)]
    found = load(write(root, lines, "utf-8-sig"))
    assert found.class_names == ("cat, big", "dog")
    assert found.name == "csv:list.csv"
    assert found.skipped == ""
    reds = [split.images[:, 0, 0, 0].tolist() for split in (found.train, found.test)]
    assert reds == [[20 * i for i in range(6)], [20 * i for i in range(6, 10)]]
    assert found.train.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert found.validation is not None
    assert found.validation.images[:, 0, 0, 0].tolist() == [200, 220]


def test_without_parts_a_fifth_of_each_class_is_the_test(root: Path) -> None:
    lines = ["path,label", *(f"{name_of(i)},{10 if i < 8 else 9}" for i in range(12)), ""]
    found = load(write(root, lines))
    # Numbers count as numbers.
    assert found.class_names == ("9", "10")
    assert torch.bincount(found.test.labels).tolist() == [1, 2]
    assert len(found.train) == 9
    assert "no column split" in found.skipped
    # A card names the list alone; it is found in --data-dir.
    again = load_dataset(found.name, root)
    assert again.test.sha256 == found.test.sha256


def test_a_picture_in_another_folder_moves_one_other_at_most(tmp_path: Path) -> None:
    lines = ["path,label"]
    for i in range(81):
        name = f"frames/{i}.png" if i < 80 else "later/new.png"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / name)
        lines.append(f"{name},{'ab'[i % 2]}")

    def tests(lines: list[str]) -> set[int]:
        return set(load(write(tmp_path, lines)).test.images[:, 0, 0, 0].tolist())

    assert len(tests(lines[:-1])) == 16
    assert len(tests(lines[:-1]) - tests(lines)) <= 1


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["file,label", "0.png,a"], "names the columns path and label once each.*came file, label"),
        (["path;label", "0.png;a"], "separate fields by commas"),
        (["0.png,a", "1.png,b"], "names the columns path and label"),
        (["path,label,path", "0.png,a,b"], "once each"),
        (["", "0.png,a"], "came nothing"),
        (["path,label"], "expected a picture on each line"),
        (
            ["path,label", "0.png,a,b"],
            "line 2: expected 2 fields, .*came 3; put those with a comma",
        ),
        (["path,label", "0.png"], "line 2: expected 2 fields, .*came 1"),
        (["path,label", "0.png,"], "line 2: expected a path and a label"),
        (
            ["path,label", "0.png,a", "gone.png,a"],
            r"line 3: no file .*gone\.png; paths are relative",
        ),
        (["path,label", "0.png,a", "./0.png,b"], "line 3: ./0.png stands on line 2, too"),
        (["path,label,split", "0.png,a,dev"], "line 2: expected train, test, val as split"),
        (["path,label,split", "0.png,a,train", "2.png,b,train"], r"none is test \(or val\)"),
        (["path,label", '"0.png,a'], "not a list in CSV"),
        (["path,label", "0.png,a", "2.png,a", "4.png,b"], "one picture of 'b' cannot be in"),
        (
            ["path,label,split", "0.png,a,train", "2.png,b,train", "4.png,c,test"],
            "no picture of train is of 'c'",
        ),
        (["path,label", "0\0.png,a"], "not a list in CSV|line 2: .* with a NUL byte"),
        (["path,label", "0.png,a", "2.png,a"], "2 classes or more, found 1"),
    ],
)
def test_a_wrong_list_is_told_by_its_line(root: Path, lines: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        load(write(root, lines))
    assert "list.csv" in str(caught.value)


def test_a_list_that_is_not_utf8_or_not_there_is_told(root: Path) -> None:
    with pytest.raises(InputError, match="expected text in UTF-8"):
        load(write(root, ["path,label", "0.png,Käse"], "latin-1"))
    with pytest.raises(InputError, match=r"gone\.csv: .* as --data-dir"):
        load(root / "gone.csv")


def test_a_picture_by_two_names_counts_once(root: Path) -> None:
    (root / "again.png").symlink_to("0.png")
    with pytest.raises(InputError, match="stands on line 2, too"):
        load(write(root, ["path,label", "0.png,a", "again.png,a"]))
