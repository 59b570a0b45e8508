"""A baseline: what a report is compared with, small enough to be reviewed in a repository."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edge_bench.core.errors import InconclusiveError, InputError
from edge_bench.core.formats import Change, Format
from edge_bench.core.parse import json_of
from edge_bench.core.pictures.walked import Walked
from edge_bench.core.ranges import at_least, fractions
from edge_bench.core.spec import COMPARED, AttackSpec, Report
from edge_bench.files.report_file import read_report
from edge_bench.files.store import TEXT, read_json, require_file
from edge_bench.policy.condition import PERFORMANCE
from edge_bench.policy.measured import measured
from edge_bench.statistics.metrics import BoolArray, decode_mask, encode_mask, pack_bits
from edge_bench.statistics.path import right

ROUNDED = 1e-6
WHAT = "a report of ardx bench, or a baseline made of one"


@dataclass(frozen=True, kw_only=True)
class BaselineSet:
    """One replayed set: its name, its attack, who was right (`packed`), and the accuracy.

    `threat` is that of `spec.SetManifest`; of those before this field, none was of `COMPARED`.
    `attacked` is its, too; None where a baseline of before does not tell it.
    """

    name: str
    attack: AttackSpec
    accuracy: float
    right: str
    threat: str = "replay"
    attacked: str | None = None

    def __post_init__(self) -> None:
        fractions(f"set {self.name}", {"accuracy": self.accuracy})


@dataclass(frozen=True, kw_only=True)
class BaselinePictures:
    """N pictures that were walked from their files to logits.

    Attributes:
        files_sha256: of all files in their order.
        pipeline: on which they were walked.
        samples: N.
        accuracy: on it.
        right: who was (`packed`).
    """

    files_sha256: str
    pipeline: str
    samples: int
    accuracy: float
    right: str

    def __post_init__(self) -> None:
        at_least(1, "baseline, pictures", {"samples": self.samples})
        fractions("baseline, pictures", {"accuracy": self.accuracy})
        _refuse_edited("pictures", self.accuracy, self.mask)

    @property
    def mask(self) -> BoolArray:
        """(N,) booleans: right from file to logits."""
        return unpacked(self.right, self.samples)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Masks and summaries of a report, without its raw samples.

    Attributes:
        artifact: name of the file that was measured.
        architecture, dataset: of its card; None where it had none.
        device, backend: what it was measured on and with.
        board, cpu, power_mode, threads: the same, closer.
        images_a_call: of the throughput; None, as all of the line above, in baselines of before.
        images_sha256: the clean images and labels.
        samples: how many.
        clean_accuracy, right: of the clean images; see BaselineSet.
        figures: every measured metric of `condition.PERFORMANCE`.
        pictures: None where none were walked from file to logits.
    """

    FORMAT: ClassVar = Format(
        name="a baseline",
        history=(
            Change(ardx="0.2.0", what="the first form"),
            Change(
                ardx="0.2.0",
                what="threat of each set; direction and severity of its attack",
            ),
            Change(ardx="0.2.0", what="content_sha256: of all the rest"),
            Change(ardx="0.2.0", what="pictures: who was right from file to logits"),
            Change(
                ardx="0.2.0",
                what="board, cpu, power_mode, threads and images_a_call; whom each set attacked",
            ),
        ),
        sealed_from=3,
        anew="write it anew with ardx gate --update-baseline",
    )

    schema_version: int = FORMAT.version
    created: str
    ardx_version: str
    artifact: str
    artifact_sha256: str
    architecture: str | None
    dataset: str | None
    device: str
    backend: str
    images_sha256: str | None
    samples: int
    clean_accuracy: float | None
    right: str | None
    sets: tuple[BaselineSet, ...]
    figures: dict[str, float]
    pictures: BaselinePictures | None = None
    board: str | None = None
    cpu: str | None = None
    power_mode: str | None = None
    threads: int | None = None
    images_a_call: int | None = None

    def __post_init__(self) -> None:
        at_least(0, "baseline", {"samples": self.samples})
        at_least(0, "baseline", self.figures)
        fractions("baseline", {"clean_accuracy": self.clean_accuracy})
        if len({s.name for s in self.sets}) < len(self.sets):
            raise InputError("baseline: expected sets of different names, came one name twice")
        told = {s.name: (s.accuracy, s.right) for s in self.sets}
        if self.right is not None:
            told["the clean images"] = (self.clean_accuracy or 0.0, self.right)
        for name, (accuracy, bits) in told.items():
            _refuse_edited(name, accuracy, unpacked(bits, self.samples))

    @property
    def clean_mask(self) -> BoolArray | None:
        """(N,) booleans: right on the clean image."""
        return None if self.right is None else unpacked(self.right, self.samples)

    def mask(self, name: str) -> BoolArray | None:
        """(N,) booleans of a set; None where it has none of that name."""
        found = (s.right for s in self.sets if s.name == name)
        return next((unpacked(right, self.samples) for right in found), None)

    def worst_case_mask(self) -> BoolArray | None:
        """As `metrics.worst_case_mask`."""
        clean = self.clean_mask
        found = [s for s in self.sets if s.threat not in COMPARED]
        if clean is None or not found:
            return None
        for result in found:
            clean = clean & unpacked(result.right, self.samples)
        return clean


def _refuse_edited(name: str, accuracy: float, mask: BoolArray) -> None:
    """A figure that people review in place of bits must be that of the bits."""
    found = float(mask.mean())
    if abs(found - accuracy) > ROUNDED:
        raise InputError(
            f"baseline: expected the accuracy of {name} to be that of its bits, {found:.6g}, came "
            f"{accuracy:.6g}: it was edited; write it anew with --update-baseline"
        )


def packed(mask: str) -> str:
    """A report's mask as base64 of its bits."""
    return base64.b64encode(pack_bits(decode_mask(mask))).decode("ascii")


def unpacked(text: str, samples: int) -> BoolArray:
    """The inverse of `packed`.

    Raises:
        InputError: no base64 of so many bits.
    """
    try:
        bits = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except binascii.Error:
        bits = np.empty(0, dtype=np.uint8)
    if not samples or len(bits) != (samples + 7) // 8:
        raise InputError(f"baseline: expected the bits of {samples} samples as base64")
    return np.unpackbits(bits, count=samples).view(np.bool_)


def baseline_of(report: Report) -> Baseline:
    """What a later report is compared with."""
    card, clean = report.artifact.card, report.clean_mask
    return Baseline(
        created=report.created,
        ardx_version=report.ardx_version,
        artifact=Path(report.artifact.path).name,
        artifact_sha256=report.artifact.sha256,
        architecture=card.architecture if card else None,
        dataset=card.dataset if card else None,
        device=report.device.device,
        backend=report.backend.name,
        images_sha256=report.images_sha256,
        samples=len(clean or ""),
        clean_accuracy=_mean(clean) if clean else None,
        right=packed(clean) if clean else None,
        sets=tuple(
            BaselineSet(
                name=s.name,
                attack=s.manifest.attack,
                accuracy=_mean(s.mask),
                right=packed(s.mask),
                threat=s.manifest.threat,
                attacked=s.manifest.attacked,
            )
            for s in report.sets
        ),
        figures=_figures(report),
        pictures=_pictures(report.pictures) if report.pictures else None,
        board=report.device.board,
        cpu=report.device.cpu,
        power_mode=report.device.power_mode,
        threads=report.backend.threads,
        images_a_call=report.throughput.batch_size,
    )


def _pictures(walked: Walked) -> BaselinePictures:
    mask = encode_mask(right(walked))
    return BaselinePictures(
        files_sha256=walked.files_sha256,
        pipeline=walked.pipeline,
        samples=len(mask),
        accuracy=_mean(mask),
        right=packed(mask),
    )


def read_baseline(path: Path) -> Baseline:
    """Read a baseline, or make one of a report.

    Raises:
        InputError: neither.
    """
    if _is_report(path):
        return baseline_of(read_report(path))
    return read_json(path, Baseline, WHAT)


def is_baseline(path: Path) -> bool:
    """Has the file what only a baseline has?"""
    return {"schema_version", "artifact_sha256", "figures", "sets"} <= _fields(path).keys()


def _is_report(path: Path) -> bool:
    return "latency" in _fields(path)


def _fields(path: Path) -> dict[str, Any]:
    """Of a JSON file; none of one that cannot be read, which is left to who reads it."""
    try:
        found = json_of(require_file(path, WHAT).read_text(encoding=TEXT))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _mean(mask: str) -> float:
    return round(mask.count("1") / len(mask), 6)


def _figures(report: Report) -> dict[str, float]:
    found = {}
    for metric in PERFORMANCE:
        try:
            ((_, figure),) = measured(report, metric)
        except InconclusiveError:
            continue
        # An energy that does not stand out from that of idling is nothing to compare with.
        if figure.value is not None and figure.value > 0 and not figure.too_few:
            found[metric] = figure.value
    return found
