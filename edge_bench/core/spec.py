"""The domain model: frozen values that every stage reads or writes, with validation only.

Accuracies are never stored, only the per-sample masks they follow from (see `metrics`);
latencies are raw samples in nanoseconds (see `timing`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, ClassVar

from edge_bench.core.classes import MOST_CLASSES, ClassNames, check_count, check_names
from edge_bench.core.errors import InputError
from edge_bench.core.formats import Change, Format, without_writer
from edge_bench.core.pictures.answers import Answers as Answers
from edge_bench.core.pictures.answers import ParentClasses as ParentClasses
from edge_bench.core.pictures.preprocessing import Preprocessing
from edge_bench.core.pictures.walked import Walked
from edge_bench.core.ranges import at_least
from edge_bench.core.series import Telemetry, holds_only, series_array
from edge_bench.core.threats.attack import NORMS as NORMS
from edge_bench.core.threats.attack import AttackSpec as AttackSpec
from edge_bench.core.threats.attack import parse_epsilon as parse_epsilon
from edge_bench.core.timings import Measurement, Soak, SweepPoint
from edge_bench.core.version import __version__

PRECISIONS = ("fp32", "fp16", "int8")
# How a set came about; `replay` is what sets of before these words say of themselves.
THREATS = (
    *("replay", "white-box", "bpda", "black-box", "hard-label", "transfer", "imported"),
    *("differential", "corruption"),
)
COMPARED = ("differential", "corruption")
"""Threats whose sets say what the parent answers; none of them counts in the worst case."""
SESSION_OPTIONS = ("session.qdqisint8allowed", "session.disable_quant_qdq")
"""What a card may ask of ONNX Runtime; the rest of its options can write files or load code."""
ATTACKED = ("all", "survivors")


def usual_epsilon(image_shape: tuple[int, int, int]) -> float:
    """The L-inf budget that research has for images of a size: 4/255 from 64 pixels on, else 8/255.

    The same budget shows less on a small image; 8/255 is CIFAR's, 4/255 ImageNet's.
    """
    return (4 if min(image_shape[1:]) >= 64 else 8) / 255


def _check_mask(mask: str, name: str) -> None:
    if not mask or not holds_only("01", mask):
        raise InputError(f"report: expected a mask of '0' and '1' in {name}")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model file is and where it came from; it travels inside the file.

    Attributes:
        architecture: name with optional width, such as `resnet8:32`.
        dataset: name of the dataset it was trained on.
        classes: number of classes C; logits are (B, C).
        class_names: their names, in the order of the logits; None where nobody told them.
        input_shape: (channels, height, width) of one image.
        preprocessing: how pictures became its images; None where they were of that size already,
            or nobody told.
        precision: `fp32`, `fp16` or `int8`.
        parent_sha256: file it was made from (student: teacher; ONNX: weights); None for a root.
        recipe: the settings that made it, as plain JSON values.
        session_options: ONNX Runtime's config entries under which an artefact was validated, and
            which `bench` applies; see SESSION_OPTIONS.
        ardx_version: of the ardx that wrote it; None where the card does not say.
    """

    FORMAT: ClassVar = Format(
        name="a model card",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(
                ardx="0.2.0",
                what="class_names: the names of the classes, in the order of the logits; "
                "ardx_version",
                upgrade=without_writer,
            ),
            Change(ardx="0.2.0", what="preprocessing: how a picture of any size becomes an image"),
        ),
    )

    schema_version: int = FORMAT.version
    architecture: str
    dataset: str
    classes: int
    input_shape: tuple[int, int, int]
    class_names: ClassNames | None = None
    preprocessing: Preprocessing | None = None
    precision: str = "fp32"
    parent_sha256: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    session_options: dict[str, str] = field(default_factory=dict)
    ardx_version: str | None = __version__

    def __post_init__(self) -> None:
        check_count(self.classes, "model card")
        check_names(self.class_names, self.classes, "model card")
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise InputError(
                "model card: expected input_shape (channels, height, width), "
                f"came {self.input_shape}"
            )
        side = self.preprocessing and self.preprocessing.side
        if side is not None and self.input_shape[1:] != (side, side):
            raise InputError(
                f"model card: expected pictures to become images of {self.input_shape[1:]}, came "
                f"a side of {side}"
            )
        if self.precision not in PRECISIONS:
            raise InputError(
                f"model card: expected precision {' or '.join(PRECISIONS)}, came {self.precision!r}"
            )
        for key, value in self.session_options.items():
            if key not in SESSION_OPTIONS or value not in ("0", "1"):
                raise InputError(
                    f"model card: expected session options {' or '.join(SESSION_OPTIONS)} of 0 or "
                    f"1, came {key} = {value!r}; use the ardx that exported it"
                )


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model that a set was crafted on: its file's sha256 and its name, for people."""

    sha256: str
    name: str


@dataclass(frozen=True, kw_only=True)
class SetManifest:
    """Everything about an adversarial set except its arrays.

    Attributes:
        samples: number of images N.
        image_shape: (channels, height, width).
        classes: number of classes; labels are in [0, classes).
        class_names: their names, in the order of the labels; None where nobody told them.
        dataset: name of the dataset that the clean images come from.
        attack: what was run.
        threat: how the set was made: `white-box` (gradients of the source), `bpda` (logits of the
            source, gradients of the surrogate), `black-box` (scores of the source alone),
            `hard-label` (its classes alone), `transfer` (white-box on a source that stands in for
            another model), `imported`, `differential` (images on which the source and its parent
            differ) or `corruption` (no attack: noise, blur, weather).
        attacked: `all` samples, or the `survivors` of the attacks before it in a report: its mask
            there has a '0' for the others, though this attack never tried them.
        source_sha256: file the set was crafted on; of an imported set, the file it was read from.
        source_name: its name, for people.
        surrogate_sha256: file whose gradients stood in for those of the source (`bpda`).
        parent_sha256: weights whose answers the set holds (threats of COMPARED), else None.
        refreshed: sources of the sets that this one was refreshed from, the oldest first.
        on_grid: images are whole 8-bit levels (stored as uint8) rather than float32.
        arrays: sha256 of each array file, by file name.
        versions: library versions that crafted it.
    """

    FORMAT: ClassVar = Format(
        name="the manifest of a set",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(
                ardx="0.2.0",
                what="class_names: the names of the classes, in the order of the labels",
            ),
            Change(
                ardx="0.2.0",
                what="threats hard-label, differential and corruption; parent_sha256 and the array "
                "parent.npy; refreshed; direction and severity of an attack",
            ),
            Change(ardx="0.2.0", what="content_sha256 in manifest.json: of all the rest"),
        ),
        sealed_from=4,
        anew="craft the set again",
    )

    schema_version: int = FORMAT.version
    samples: int
    image_shape: tuple[int, int, int]
    classes: int
    dataset: str
    attack: AttackSpec
    threat: str = "replay"
    attacked: str = "all"
    source_sha256: str
    source_name: str
    surrogate_sha256: str | None = None
    on_grid: bool
    arrays: dict[str, str]
    versions: dict[str, str]
    class_names: ClassNames | None = None
    parent_sha256: str | None = None
    refreshed: tuple[Source, ...] = ()

    @property
    def is_compared(self) -> bool:
        """Does the set say what the parent answers, and so stay out of the worst case?"""
        return self.threat in COMPARED

    def __post_init__(self) -> None:
        at_least(0, "set manifest", {"samples": self.samples})
        at_least(1, "set manifest", {"image_shape": min(self.image_shape)})
        check_count(self.classes, "set manifest")
        check_names(self.class_names, self.classes, "set manifest")
        if self.threat not in THREATS:
            known = " or ".join(THREATS)
            raise InputError(f"set manifest: expected threat {known}, came {self.threat!r}")
        if self.attacked not in ATTACKED:
            known = " or ".join(ATTACKED)
            raise InputError(f"set manifest: expected attacked {known}, came {self.attacked!r}")
        self._check_kind()

    def _check_kind(self) -> None:
        attack = self.attack
        for threat, name, value in (
            ("differential", "direction", attack.direction),
            ("corruption", "severity", attack.severity),
        ):
            if (self.threat == threat) != (value is not None):
                raise InputError(
                    f"set manifest: expected a {name} of its attack with the threat {threat} and "
                    f"no other, came {name} {value} with {self.threat}"
                )
        if self.threat == "differential" and self.parent_sha256 is None:
            raise InputError("set manifest: expected the parent_sha256 of a differential set")
        if self.parent_sha256 is not None and not self.is_compared:
            raise InputError(
                f"set manifest: expected no parent_sha256 of a set with the threat {self.threat}"
            )


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A model file under test. `card` is None where ardx did not make it."""

    path: str
    sha256: str
    size_bytes: int
    card: ModelCard | None

    def __post_init__(self) -> None:
        at_least(1, "artifact", {"size_bytes": self.size_bytes})

    def relation_to(self, source_sha256: str | None) -> str:
        """What the model that images were made on is to this one, in words."""
        if source_sha256 == self.sha256:
            return "this artefact"
        if self.card is not None and source_sha256 == self.card.parent_sha256:
            return "its parent"
        return "another model"


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """The machine a measurement was made on; what could not be probed is None.

    Attributes:
        device: key of `devices.DEVICES`.
        soc: the device tree's name of the chip, such as `nvidia,tegra234`.
        cores: those that are switched on.
        power_mode: that of `nvpmodel`, such as `MAXN_SUPER (2)`.
        throttled: what throttled before the run, now or since boot; empty where nothing did.
        vnni: whether an x86 processor multiplies 8-bit integers without saturation.
    """

    device: str
    board: str | None
    cpu: str | None
    architecture: str
    cores: int | None
    memory_bytes: int | None
    os: str
    python: str
    governor: str | None
    soc: str | None = None
    kernel: str | None = None
    power_mode: str | None = None
    throttled: tuple[str, ...] | None = None
    vnni: bool | None = None

    def __post_init__(self) -> None:
        at_least(1, "device", {"cores": self.cores, "memory_bytes": self.memory_bytes})


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """The runtime a measurement was made with; `providers` are those really in use."""

    name: str
    version: str
    providers: tuple[str, ...]
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class FingerprintResult:
    """How the runtime of a report answered the inputs that the artefact was validated with.

    Attributes:
        samples: stored inputs.
        same_class: of them, those with the class that the validated runtime gave.
        largest_difference: of any logit, as a fraction of the spread of the validated logits.
        tolerance: what another kernel for the same arithmetic may differ by.
        backend, architecture, cpu: the runtime and machine of the validation.
    """

    samples: int
    same_class: int
    largest_difference: float
    tolerance: float
    backend: BackendInfo
    architecture: str
    cpu: str | None

    def __post_init__(self) -> None:
        others = {"largest_difference": self.largest_difference, "tolerance": self.tolerance}
        at_least(0, "fingerprint", {"same_class": self.same_class, **others})
        at_least(self.same_class, "fingerprint", {"samples": self.samples})


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """One replayed set, or one attack on the spot.

    `mask` has a '1' for each sample that stayed correctly classified (see `SetManifest.attacked`).

    `relation` says what the set was crafted on, seen from the artefact: `this artefact`,
    `its parent` or `another model`. `answers` is None where nobody kept them, `parent` where the
    set does not say what the parent answers. `beside_source` counts the samples that the artefact
    alone got right of it and the source that it was crafted on; None of an attack on the spot.
    """

    name: str
    manifest: SetManifest
    relation: str
    mask: str
    answers: Answers | None = None
    parent: ParentClasses | None = None
    beside_source: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_mask(self.mask, self.name)
        more, less = self.beside_source or (0, 0)
        if min(more, less) < 0 or more > self.mask.count("1") or less > self.mask.count("0"):
            raise InputError(
                f"set {self.name}: expected beside_source to count samples that its mask has right "
                f"and wrong, came {more} and {less}"
            )
        if len(self.mask) != self.manifest.samples:
            raise InputError(
                f"set {self.name}: expected a mask of the {self.manifest.samples} samples of its "
                f"manifest, came one of {len(self.mask)}"
            )


@dataclass(frozen=True, kw_only=True)
class Report:
    """One benchmark run. Masks and raw samples only; see `metrics` and `timing` for figures.

    `images_sha256` identifies the clean images and labels, so that two reports are compared
    sample by sample only where they saw the same samples. `fingerprint` is None where none lay
    beside the artefact, `telemetry` where no sensor answered, `output` where the graph has one
    output of logits alone, `pictures` where none were walked from file to logits. `labels` is a
    series of the class of each clean image, and `content_sha256` that of all the rest, by which an
    edited file is told (see `files.seals`); None in reports of before.
    """

    FORMAT: ClassVar = Format(
        name="a report of ardx bench",
        history=(
            Change(ardx="0.1.0", what="the first form"),
            Change(
                ardx="0.2.0",
                what="output: which of several outputs was measured; device.vnni; model cards and "
                "manifests of sets of version 2 in it",
            ),
            Change(
                ardx="0.2.0",
                what="labels, clean_answers and answers of each set: class and confidence of each "
                "image; content_sha256: of all the rest",
            ),
            Change(
                ardx="0.2.0",
                what="parent: what the parent said of a set's images; manifests of version 3 in it",
            ),
            Change(ardx="0.2.0", what="pictures: what was measured from files to logits"),
            Change(
                ardx="0.2.0",
                what="beside_source: samples of a set that the artefact alone has right, and its "
                "source alone",
            ),
        ),
        sealed_from=3,
        anew="run ardx bench again",
    )

    schema_version: int = FORMAT.version
    created: str
    ardx_version: str
    artifact: Artifact
    device: DeviceProfile
    backend: BackendInfo
    images_sha256: str | None
    clean_mask: str | None
    sets: tuple[SetResult, ...]
    latency: Measurement
    throughput: Measurement
    peak_memory_bytes: int
    fingerprint: FingerprintResult | None = None
    telemetry: Telemetry | None = None
    multi_stream: Measurement | None = None
    offline: tuple[Measurement, ...] = ()
    sweep: tuple[SweepPoint, ...] = ()
    soak: Soak | None = None
    output: str | None = None
    labels: str | None = None
    clean_answers: Answers | None = None
    pictures: Walked | None = None
    content_sha256: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        at_least(0, "report", {"peak_memory_bytes": self.peak_memory_bytes})
        self._check_masks()
        samples = len(self.clean_mask or "")
        told: list[Answers | ParentClasses | None] = [self.clean_answers]
        told += [one for s in self.sets for one in (s.answers, s.parent)]
        lengths = {len(answers) for answers in told if answers is not None}
        if self.labels is not None:
            lengths.add(len(series_array(self.labels)))
        if lengths - {samples}:
            raise InputError(
                f"report: expected labels and answers of {samples} images, as many as its clean "
                f"mask has, came {', '.join(map(str, sorted(lengths)))}"
            )
        self._check_classes(told)

    def _check_classes(self, told: list[Answers | ParentClasses | None]) -> None:
        """Refuse a label or an answer that is none of the classes: names are looked up by them."""
        counts = {s.manifest.classes for s in self.sets}
        if len(counts) > 1:
            raise InputError(
                "report: expected sets of as many classes each, came "
                f"{', '.join(map(str, sorted(counts)))}"
            )
        count = min(counts, default=MOST_CLASSES)
        series = [] if self.labels is None else [self.labels]
        for one in told:
            if isinstance(one, Answers):
                series.append(one.predicted)
            elif one is not None:
                series += [one.clean, one.stored]
        for values in map(series_array, series):
            if not 0 <= values.min() <= values.max() < count:
                raise InputError(
                    f"report: expected labels and answers among {count} classes, came "
                    f"{values.min()} to {values.max()}"
                )

    @property
    def made_at(self) -> datetime:
        """`created` as a time; in UTC where it names no zone.

        Raises:
            InputError: it is no time.
        """
        try:
            made = datetime.fromisoformat(self.created)
        except ValueError:
            raise InputError(
                "expected a time such as 2025-01-31T12:00:00+00:00 for created, came "
                f"{self.created!r}; write the report anew with ardx bench"
            ) from None
        return made if made.tzinfo else made.replace(tzinfo=timezone.utc)

    def _check_masks(self) -> None:
        if self.clean_mask is not None:
            _check_mask(self.clean_mask, "clean_mask")
        elif self.sets:
            raise InputError("report: expected a clean mask beside those of its sets, came none")
        for name, times in Counter(s.name for s in self.sets).items():
            if times > 1:
                raise InputError(f"report: expected one set called {name}, came {times}")
        for found in self.sets:
            if len(found.mask) != len(self.clean_mask or ""):
                raise InputError(
                    f"report: expected masks of one length, came {len(self.clean_mask or '')} "
                    f"clean images and {len(found.mask)} in {found.name}"
                )
