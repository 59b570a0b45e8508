"""A benchmark on ONNX Runtime says of a linear classifier what numpy says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edge_bench.backends.base import ImageInput
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.metrics import accuracy
from edge_bench.core.spec import AttackSpec, ModelCard, Report, SetManifest
from edge_bench.devices.process import peak_memory_bytes
from edge_bench.files.sets import AdversarialSet, open_set, open_sets
from edge_bench.files.store import read_json, sha256_file, write_json
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import prepare
from edge_bench.runs.one_run import run

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
    assert (artifact.path, artifact.card) == (str(path), card)


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


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(
    make_model: MakeModel,
    opened: AdversarialSet,
    quick: Quick,
    weight: NDArray[np.float32],
    value: float,
) -> None:
    bad = weight.copy()
    bad[1, 5] = value
    with pytest.raises(InputError, match=r"logits hold NaN or infinity .*export or quantise"):
        run(make_model(weight=bad), [opened], quick())


def test_images_of_another_shape_are_refused(
    make_model: MakeModel, make_set: MakeSet, quick: Quick, clean: NDArray[np.uint8]
) -> None:
    small = np.ascontiguousarray(clean[:, :1])
    folder = make_set(images=small, clean=small)
    with pytest.raises(InputError, match=r"shape \(1, 8, 8\) .*reads \(3, 8, 8\); craft"):
        run(make_model(), [open_set(folder)], quick())


def test_another_number_of_classes_is_refused(
    make_model: MakeModel, make_set: MakeSet, quick: Quick
) -> None:
    folder = make_set(manifest={"classes": 10})
    with pytest.raises(InputError, match=r"holds 10 classes, but .* has 4 logits; craft"):
        run(make_model(), [open_set(folder)], quick())


def test_another_number_of_classes_is_refused_where_the_graph_leaves_it_open(
    make_model: MakeModel, make_set: MakeSet, quick: Quick
) -> None:
    folder = make_set(manifest={"classes": 10})
    with pytest.raises(InputError, match=r"expected logits \(\d+, 10\), came \(\d+, 4\)"):
        run(make_model(classes="classes"), [open_set(folder)], quick())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("ant", "cat", "dog", "owl"), "of other names: 'ant', 'cat', 'dog', 'owl', but"),
        (("elk", "dog", "cat", "owl"), "in another order: 'elk', 'dog', 'cat', 'owl', but"),
    ],
)
def test_a_set_of_other_classes_than_the_card_s_is_refused(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    make_set: MakeSet,
    quick: Quick,
    names: tuple[str, ...],
    said: str,
) -> None:
    path = make_model(card=make_card(class_names=("cat", "dog", "elk", "owl")))
    with pytest.raises(InputError, match=said):
        run(path, [open_set(make_set(manifest={"class_names": names}))], quick())


def test_a_report_holds_the_names_of_the_classes(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    make_set: MakeSet,
    quick: Quick,
) -> None:
    names = ("cat", "dog", "elk", "owl")
    path = make_model(card=make_card(class_names=names))
    report = run(path, [open_set(make_set(manifest={"class_names": names}))], quick())
    assert report.artifact.card is not None
    assert report.artifact.card.class_names == names
    assert report.sets[0].manifest.class_names == names
    # An older set names none, and its number of classes has to do.
    assert run(path, [open_set(make_set("old"))], quick()).sets[0].manifest.class_names is None


def test_a_set_of_another_dataset_than_the_card_s_is_refused(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    opened: AdversarialSet,
    quick: Quick,
) -> None:
    path = make_model(card=make_card(dataset="cifar10"))
    with pytest.raises(InputError, match=r"crafted from toy, but .*trained on cifar10; craft"):
        run(path, [opened], quick())


def test_images_off_the_grid_are_refused_by_a_model_that_reads_bytes(
    make_model: MakeModel, make_set: MakeSet, quick: Quick, attacked: NDArray[np.uint8]
) -> None:
    images = (attacked / np.float32(255)).astype(np.float32)
    with pytest.raises(InputError, match="not on the 8-bit grid; craft it without --off-grid"):
        run(make_model(dtype="uint8"), [open_set(make_set(images=images))], quick())


def test_an_open_image_size_without_sets_is_refused(make_model: MakeModel, quick: Quick) -> None:
    with pytest.raises(InputError, match=r"leaves its image size open.*give --sets"):
        run(make_model(shape=(3, "height", "width")), [], quick())


def test_a_graph_that_fails_on_batches_is_refused(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    with pytest.raises(InputError, match=r"failed on a batch of shape \(30, 3, 8, 8\)"):
        run(make_model(reshape_to=(1, 192)), [opened], quick())


def test_preprocessing_of_a_model_that_reads_bytes_is_refused(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    with pytest.raises(InputError, match=r"--mean and --std: .*reads uint8"):
        run(make_model(dtype="uint8"), [opened], quick(mean=(0.5,), std=(0.5,)))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_preprocessing_of_a_model_that_has_it_inside_is_refused(
    dtype: str,
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    opened: AdversarialSet,
    quick: Quick,
) -> None:
    """What ardx exports has its normalisation inside: 40 % became 14 % when it came twice."""
    model = make_model(dtype=dtype, card=make_card())
    with pytest.raises(InputError, match=r"--mean and --std: .*leave both out"):
        run(model, [opened], quick(mean=(0.5,) * 3, std=(0.5,) * 3))


@pytest.mark.parametrize("sets", [True, False])
def test_preprocessing_for_another_number_of_channels_is_refused(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick, sets: bool
) -> None:
    options = quick(mean=(0.5, 0.5), std=(0.5, 0.5))
    with pytest.raises(InputError, match=r"--mean and --std: expected 3 values.*came 2"):
        run(make_model(), [opened] if sets else [], options)


def test_a_device_that_is_not_here_is_said_before_the_model_is_opened(
    tmp_path: Path, quick: Quick
) -> None:
    with pytest.raises(CapabilityError, match="--device rpi"):
        run(tmp_path / "none.onnx", [], quick(device="rpi"))


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"batch_size": 0}, "--batch-size"),
        ({"min_runs": 0}, "--runs"),
        ({"warmup_runs": -1}, "--warmup"),
        ({"threads": 0}, "--threads"),
        ({"min_seconds": -1.0}, "--seconds"),
        ({"min_seconds": float("inf")}, "--seconds"),
        ({"min_seconds": float("nan")}, "--seconds"),
        ({"mean": (0.5,)}, "--mean and --std"),
        ({"std": (0.5,)}, "--mean and --std"),
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "--mean and --std"),
        ({"mean": (0.5,), "std": (0.0,)}, "--std"),
        ({"mean": (0.5,), "std": (-1.0,)}, "--std"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "--mean"),
        ({"mean": (0.5,), "std": (float("nan"),)}, "--std"),
    ],
)
def test_options_that_cannot_be_run_are_refused(
    quick: Quick, options: dict[str, Any], option: str
) -> None:
    with pytest.raises(InputError, match=f"{option}.*expected"):
        quick(**options)


def test_a_manifest_is_compared_with_the_graph_for_every_set(
    make_model: MakeModel, opened: AdversarialSet, quick: Quick
) -> None:
    manifest: SetManifest = replace(opened.manifest, dataset="toy", classes=7)
    with pytest.raises(InputError, match="holds 7 classes"):
        run(make_model(), [opened, replace(opened, manifest=manifest)], quick())


def test_external_weights_count_in_size_and_identity(
    make_model: MakeModel, quick: Quick, tmp_path: Path
) -> None:
    plain = make_model("plain.onnx")
    hashes = set()
    for name, factor in (("a.onnx", 1), ("b.onnx", 2)):
        graph = onnx.load(plain)
        for tensor in graph.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            if array.dtype == np.float32:
                scaled = onnx.numpy_helper.from_array(factor * array, tensor.name)
                tensor.CopyFrom(scaled)
        onnx.save(
            graph,
            tmp_path / name,
            save_as_external_data=True,
            location=f"{name}.data",
            size_threshold=0,
        )
        report = run(tmp_path / name, [], quick())
        files = [tmp_path / name, tmp_path / f"{name}.data"]
        assert report.artifact.size_bytes == sum(f.stat().st_size for f in files)
        hashes.add(report.artifact.sha256)
    assert len(hashes) == 2


def test_peak_memory_is_this_process_own(tmp_path: Path) -> None:
    """A small child of a large parent is small: getrusage alone would say otherwise."""
    code = "from edge_bench.devices.process import peak_memory_bytes; print(peak_memory_bytes())"
    ballast = np.ones(60_000_000)  # 480 MB
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert peak_memory_bytes() > ballast.nbytes
    assert 10_000_000 < int(done.stdout) < 200_000_000


def test_nan_logits_are_refused_without_sets_too(make_model: MakeModel, quick: Quick) -> None:
    broken = make_model(weight=np.full((4, 192), np.nan, dtype=np.float32))
    with pytest.raises(InputError, match="NaN or infinity on the images that were timed"):
        run(broken, [], quick())
