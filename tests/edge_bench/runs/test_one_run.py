"""A benchmark on ONNX Runtime says of a linear classifier what numpy says."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.backends.base import ImageInput
from edge_bench.core.spec import AttackSpec, ModelCard, Report
from edge_bench.files.seals.content import sealed
from edge_bench.files.sets import AdversarialSet, open_set, open_sets
from edge_bench.files.store import read_json, sha256_file, write_json
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import prepare
from edge_bench.runs.one_run import run
from edge_bench.statistics.metrics import accuracy

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
Quick = Callable[..., BenchOptions]
ExpectedMask = Callable[[NDArray[Any]], str]


def masks(report: Report) -> tuple[str | None, str]:
    """The clean mask and that of the only set."""
    (result,) = report.sets
    return report.clean_mask, result.mask


# --- accuracy -------------------------------------------------------------------------------


def test_the_masks_are_those_that_numpy_computes(
    make_model: MakeModel,
    opened: AdversarialSet,
    quick: Quick,
    expected_mask: ExpectedMask,
    clean: NDArray[np.uint8],
    attacked: NDArray[np.uint8],
) -> None:
    report = run(make_model(), [opened], quick())
    assert masks(report) == (expected_mask(clean), expected_mask(attacked))


def test_the_accuracies_of_the_linear_classifier_are_the_known_ones(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    clean_mask, mask = masks(run(make_model(), [opened], quick()))
    assert clean_mask is not None
    # Every fifth of the 30 labels is wrong by construction; the attack only takes away.
    assert accuracy(clean_mask) == 24 / 30
    assert 0 < accuracy(mask) < 24 / 30


@pytest.mark.parametrize("batch_size", [1, 7, 30, 64])
def test_the_masks_do_not_depend_on_the_batch_size(
    make_model: MakeModel,
    opened: AdversarialSet,
    quick: Quick,
    expected_mask: ExpectedMask,
    clean: NDArray[np.uint8],
    attacked: NDArray[np.uint8],
    batch_size: int,
) -> None:
    report = run(make_model(), [opened], quick(batch_size=batch_size))
    assert masks(report) == (expected_mask(clean), expected_mask(attacked))


@pytest.mark.parametrize(
    "how",
    [
        {"batch": 1},
        {"batch": 4},  # 30 samples: the last batch is padded
        {"batch": 64},  # more than there are samples
        {"channels_last": True},
        {"dtype": "uint8"},
        {"dtype": "uint8", "channels_last": True, "batch": 4},
        {"shape": (3, "height", "width"), "classes": "classes"},
    ],
)
def test_every_layout_of_the_input_gives_the_same_masks(
    make_model: MakeModel,
    opened: AdversarialSet,
    quick: Quick,
    expected_mask: ExpectedMask,
    clean: NDArray[np.uint8],
    attacked: NDArray[np.uint8],
    how: dict[str, Any],
) -> None:
    report = run(make_model(**how), [opened], quick())
    assert masks(report) == (expected_mask(clean), expected_mask(attacked))


def test_the_levels_of_the_8_bit_grid_become_fractions_of_255(quick: Quick) -> None:
    image_input = ImageInput(
        name="images", dtype="float32", channels_last=False, image_shape=(1, 1, 1), batch_size=None
    )
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    prepared = prepare(levels, image_input, quick())
    assert prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared.ravel(), np.arange(256, dtype=np.float32) / 255)


def test_a_float16_model_reads_images_rounded_to_float16(
    make_model: MakeModel,
    opened: AdversarialSet,
    quick: Quick,
    expected_mask: ExpectedMask,
    clean: NDArray[np.uint8],
    attacked: NDArray[np.uint8],
) -> None:
    def rounded(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return (images / 255).astype(np.float16).astype(np.float64) * 255

    report = run(make_model(dtype="float16"), [opened], quick())
    assert masks(report) == (expected_mask(rounded(clean)), expected_mask(rounded(attacked)))


def test_images_off_the_grid_are_replayed_as_they_are(
    make_model: MakeModel,
    make_set: MakeSet,
    quick: Quick,
    expected_mask: ExpectedMask,
    attacked: NDArray[np.uint8],
) -> None:
    images = (attacked / np.float32(255) * np.float32(0.999)).astype(np.float32)
    looser = AttackSpec(name="pgd", epsilon=17 / 255, step_size=None, steps=None)
    folder = make_set(images=images, manifest={"attack": looser})
    report = run(make_model(), [open_set(folder)], quick())
    assert masks(report)[1] == expected_mask(images.astype(np.float64) * 255)


def test_preprocessing_by_options_equals_normalisation_inside_the_graph(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    mean, std = (0.9, 0.1, 0.5), (0.1, 0.9, 0.3)
    inside = run(make_model("inside.onnx", mean=mean, std=std), [opened], quick())
    outside = run(make_model("bare.onnx"), [opened], quick(mean=mean, std=std))
    bare = run(make_model("bare.onnx"), [opened], quick())
    assert masks(outside) == masks(inside)
    assert masks(outside) != masks(bare)


def test_preprocessing_comes_before_the_move_to_channels_last(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    options = quick(mean=(0.9, 0.1, 0.5), std=(0.1, 0.9, 0.3))
    first = run(make_model("nchw.onnx"), [opened], options)
    last = run(make_model("nhwc.onnx", channels_last=True), [opened], options)
    assert masks(last) == masks(first)


def test_every_set_has_its_own_mask_and_keeps_its_manifest(
    make_model: MakeModel,
    make_set: MakeSet,
    quick: Quick,
    expected_mask: ExpectedMask,
    clean: NDArray[np.uint8],
    attacked: NDArray[np.uint8],
) -> None:
    attack = AttackSpec(name="fgsm", epsilon=1 / 255, step_size=1 / 255, steps=1)
    make_set("fgsm", images=clean, manifest={"attack": attack})
    sets = open_sets(make_set("pgd").parent)
    report = run(make_model(), sets, quick())
    assert [(s.name, s.mask) for s in report.sets] == [
        ("fgsm", expected_mask(clean)),
        ("pgd", expected_mask(attacked)),
    ]
    assert report.sets[0].manifest.attack == attack


def test_progress_is_told_with_the_accuracy_of_each_step(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    steps: list[tuple[int, int, str]] = []
    run(make_model(), [opened], quick(), lambda *step: steps.append(step))
    assert [(done, total) for done, total, _ in steps] == [(1, 2), (2, 2)]
    assert steps[0][2] == "clean 80.0%"
    assert steps[1][2].startswith("pgd ")


# --- what the report says about the artefact --------------------------------------------------


def test_a_report_identifies_the_artefact_by_its_hash_and_size(
    make_model: MakeModel, make_card: Callable[..., ModelCard], quick: Quick
) -> None:
    card = make_card()
    path = make_model(card=card)
    artifact = run(path, [], quick()).artifact
    assert (artifact.sha256, artifact.size_bytes) == (sha256_file(path), path.stat().st_size)
    # The name alone: a whole path tells of whoever measured it.
    assert (artifact.path, artifact.card) == (path.name, card)


def test_a_set_crafted_on_the_artefact_itself_is_related_so(
    make_model: MakeModel, make_set: MakeSet, quick: Quick
) -> None:
    path = make_model()
    folder = make_set(manifest={"source_sha256": sha256_file(path)})
    assert run(path, [open_set(folder)], quick()).sets[0].relation == "this artefact"


def test_a_set_crafted_on_the_weights_behind_the_artefact_is_related_so(
    make_model: MakeModel, make_card: Callable[..., ModelCard], make_set: MakeSet, quick: Quick
) -> None:
    path = make_model(card=make_card(parent_sha256="f" * 64))
    folder = make_set(manifest={"source_sha256": "f" * 64})
    assert run(path, [open_set(folder)], quick()).sets[0].relation == "its parent"


def test_a_set_crafted_elsewhere_is_related_to_another_model(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    opened: AdversarialSet,
    quick: Quick,
) -> None:
    path = make_model(card=make_card(parent_sha256="f" * 64))
    assert run(path, [opened], quick()).sets[0].relation == "another model"


def test_a_set_is_related_to_another_model_where_there_is_no_card(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    report = run(make_model(), [opened], quick())
    assert report.artifact.card is None
    assert report.sets[0].relation == "another model"


def test_a_report_identifies_the_images(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    assert run(make_model(), [opened], quick()).images_sha256 == opened.images_sha256


def test_a_report_of_a_run_survives_the_way_through_a_file(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    opened: AdversarialSet,
    quick: Quick,
    tmp_path: Path,
) -> None:
    report = run(make_model(card=make_card()), [opened], quick())
    write_json(tmp_path / "report.json", report, False)
    assert read_json(tmp_path / "report.json", Report, "a report") == report


# --- timing -----------------------------------------------------------------------------------


def test_without_sets_only_time_is_measured(make_model: MakeModel, quick: Quick) -> None:
    report = run(make_model(), [], quick())
    assert (report.clean_mask, report.sets, report.images_sha256) == (None, (), None)
    assert min(report.latency.latency_ns) > 0


def test_latency_is_of_one_image_and_throughput_of_a_batch(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    report = run(make_model(), [opened], quick(batch_size=16))
    assert (report.latency.batch_size, report.throughput.batch_size) == (1, 16)


def test_latency_of_a_graph_bound_to_a_batch_size_is_of_that_batch(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    report = run(make_model(batch=4), [opened], quick(batch_size=16))
    assert (report.latency.batch_size, report.throughput.batch_size) == (4, 4)


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_latency_has_as_many_samples_as_were_asked_for(
    make_model: MakeModel, quick: Quick, batch: int | str
) -> None:
    report = run(make_model(batch=batch), [], quick(min_runs=150, warmup_runs=2))
    assert len(report.latency.latency_ns) >= 150
    assert report.latency.warmup_runs == 2


def test_peak_memory_is_that_of_a_process_with_numpy_in_it(
    make_model: MakeModel, quick: Quick
) -> None:
    report = run(make_model(), [], quick())
    assert 10 * 2**20 < report.peak_memory_bytes < 2**40


def test_fewer_images_than_a_batch_are_repeated_for_timing(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    assert run(make_model(), [opened], quick(batch_size=64)).throughput.batch_size == 64


TELLING = {
    "created",
    "ardx_version",
    "artifact.path",
    "artifact.sha256",
    "artifact.card.architecture",
    "artifact.card.dataset",
    "artifact.card.precision",
    "artifact.card.ardx_version",
    "device.device",
    "device.cpu",
    "device.architecture",
    "device.os",
    "device.kernel",
    "device.python",
    "device.governor",
    "backend.name",
    "backend.version",
    "backend.providers[]",
    "images_sha256",
    "clean_mask",
    "clean_answers.predicted",
    "clean_answers.confidence",
    "labels",
    "sets[].name",
    "sets[].relation",
    "sets[].mask",
    "sets[].answers.predicted",
    "sets[].answers.confidence",
    "sets[].manifest.*",
    "telemetry.*",
    "content_sha256",
}
"""All texts of a report, by their fields. Who adds one here has seen that it tells nobody who
measured, nor where."""


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, f"{where}.{name}" if where else name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner, f"{where}[]")
    elif isinstance(value, str):
        yield where, value


def test_a_report_tells_of_its_maker_s_machine_what_is_allowed_and_no_more(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    make_set: Callable[..., Path],
    quick: Quick,
) -> None:
    path, sets = make_model(card=make_card()), open_sets(make_set("pgd").parent)
    found = list(texts(sealed(Report, asdict(run(path, sets, quick())))))
    prefixes = tuple(name.removesuffix("*") for name in TELLING if name.endswith("*"))
    assert {name for name, _ in found if not name.startswith(prefixes)} <= TELLING
    secrets = {str(Path.home()), str(path.parent), str(Path.cwd()), socket.gethostname()}
    secrets |= {value for name, value in os.environ.items() if name in ("HOSTNAME", "LOGNAME")}
    for name, text in found:
        assert not any(len(secret) > 4 and secret in text for secret in secrets), (name, text)
