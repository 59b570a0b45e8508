"""A folder of pictures that an attack made for the way from file to logits, and its record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.ranges import at_least
from edge_bench.core.threats.attack import AttackSpec
from edge_bench.core.version import __version__
from edge_bench.files.store import read_json, sha256_file

RECORD = "attack.json"


@dataclass(frozen=True, kw_only=True)
class CraftedPictures:
    """What `attack --pictures` made: PNG files in one folder per class, at the camera's size.

    Attributes:
        attack: what was run; its budget is on the pictures, before any resize.
        threat: `white-box` or `bpda`, as of a set.
        source_sha256: of the model that was attacked.
        source_name: its name, for people.
        preprocessing: the resize that the attack went through.
        files: sha256 by name below the folder.
        versions: of the libraries that made them.
    """

    FORMAT: ClassVar = Format(
        name="the record of crafted pictures",
        history=(Change(ardx="0.2.0", what="the first form; content_sha256: of the rest"),),
        sealed_from=1,
        anew="craft the pictures again",
    )

    schema_version: int = FORMAT.version
    ardx_version: str | None = __version__
    attack: AttackSpec
    threat: str
    source_sha256: str
    source_name: str
    preprocessing: Preprocessing | None
    files: dict[str, str]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        at_least(1, "crafted pictures", {"files": len(self.files)})


def read_crafted(folder: Path, paths: list[Path]) -> CraftedPictures | None:
    """The record of a folder, once `paths` are seen to be what it names; None of other folders.

    Raises:
        InputError: a picture more, one less, or another than was crafted.
    """
    record = folder / RECORD
    if not record.is_file():
        return None
    found = read_json(record, CraftedPictures, "a record of ardx attack --pictures")
    here = {path.relative_to(folder).as_posix(): path for path in paths}
    odd = sorted(here.keys() ^ found.files.keys())
    if odd:
        kind = "is not among the pictures that" if odd[0] in here else "is missing of those that"
        raise InputError(
            f"{folder / odd[0]}: {kind} {RECORD} names; craft the pictures again, or take "
            f"{record} out to measure them as any others"
        )
    for name, path in here.items():
        if sha256_file(path) != found.files[name]:
            raise InputError(
                f"{path}: is not the picture that {RECORD} names: it was changed; craft the "
                "pictures again"
            )
    return found
