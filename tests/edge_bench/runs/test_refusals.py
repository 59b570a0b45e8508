"""What a benchmark refuses before it measures."""

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

from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.spec import ModelCard, SetManifest
from edge_bench.devices.process import peak_memory_bytes
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.runs.one_run import run

from .test_one_run import MakeModel, MakeSet, Quick

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
