"""Corruptions: each beside a plain reference, and their sets on the way to a gate."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from ard.attacks.victims import open_victim, weights_victim
from ard.cli import app
from ard.crafting.corrupt import corrupt_set
from ard.crafting.corrupting import corrupted, function, plasma
from ard.crafting.corruptions import CORRUPTIONS, parse_corruption
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, Split, as_float, take_limit
from ard.models.predict import predict
from ard.models.weight_files import load_model
from edge_bench.core.errors import InputError
from edge_bench.files.sets import open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.policy.condition import parse_condition
from edge_bench.policy.evaluate import evaluate
from edge_bench.policy.policy_file import Policy
from edge_bench.report.doubts import doubts_in
from edge_bench.report.summary import summarise
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.apart import corruption_accuracy, corruption_loss
from edge_bench.statistics.metrics import accuracy, worst_case_mask

from ..conftest import SmallModels

SAMPLES, BATCH = 50, 20
QUICK = BenchOptions(
    threads=1, min_runs=2, min_seconds=0.0, warmup_runs=1, settle_seconds=0.0, idle_seconds=0.0
)
Levels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> NDArray[np.float64]:
    return np.random.default_rng(4).random((12, 10, 3))


@pytest.fixture(scope="module")
def source(digits: Dataset) -> SplitSource:
    return SplitSource(take_limit(digits.test, SAMPLES), digits.name, digits.classes)


def apply(name: str, picture: NDArray[np.float64], *strength: float) -> NDArray[np.float64]:
    return function(name)(picture, strength, np.random.default_rng(7))


def test_blurs_are_sums_over_their_kernels(picture: NDArray[np.float64]) -> None:
    # Pixel by pixel, far enough from the border.
    at = np.arange(-2, 3)
    weights = np.exp(-(at**2) / (2 * 0.5**2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    expected = sum(
        kernel[i + 2, j + 2] * picture[6 + i, 5 + j] for i in range(-2, 3) for j in range(-2, 3)
    )
    np.testing.assert_allclose(apply("gaussian_blur", picture, 0.5)[6, 5], expected)
    # A disk of radius 1 without softness is five equal pixels.
    five = [picture[6, 5], picture[5, 5], picture[7, 5], picture[6, 4], picture[6, 6]]
    np.testing.assert_allclose(apply("defocus_blur", picture, 1, 1e-3)[6, 5], np.mean(five, axis=0))


def test_noises_have_the_moments_that_they_are_named_for() -> None:
    grey = np.full((200, 200, 3), 0.5)
    assert apply("gaussian_noise", grey, 0.08).std() == pytest.approx(0.08, rel=0.02)
    shot = apply("shot_noise", grey, 50)
    assert shot.mean() == pytest.approx(0.5, rel=0.01)
    assert shot.std() == pytest.approx(np.sqrt(0.5 / 50), rel=0.02)
    impulse = apply("impulse_noise", grey, 0.07)
    assert (impulse == 0).mean() == pytest.approx(0.035, rel=0.05)
    assert (impulse == 1).mean() == pytest.approx(0.035, rel=0.05)


def test_brightness_raises_the_value_and_keeps_hue_and_saturation(
    picture: NDArray[np.float64],
) -> None:
    import colorsys

    raised = apply("brightness", picture, 0.2)
    for x, y in ((0, 0), (3, 7), (11, 9)):
        hue, saturation, value = colorsys.rgb_to_hsv(*picture[x, y])
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1.0))
        np.testing.assert_allclose(raised[x, y], expected)


def test_contrast_jpeg_and_pixels_are_what_pillow_and_arithmetic_give(
    picture: NDArray[np.float64],
) -> None:
    halved = apply("contrast", picture, 0.5)
    np.testing.assert_allclose(halved.mean(axis=(0, 1)), picture.mean(axis=(0, 1)))
    np.testing.assert_allclose(halved.std(axis=(0, 1)), picture.std(axis=(0, 1)) / 2)
    stream = BytesIO()
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(stream, "JPEG", quality=40)
    decoded = np.asarray(Image.open(stream)) / 255
    np.testing.assert_array_equal(apply("jpeg", picture, 40), decoded)
    coarse = apply("pixelate", picture[:10], 0.5)
    block = coarse[4:6, 2:4]
    assert (block == block[0, 0]).all()
    np.testing.assert_allclose(block[0, 0], picture[4:6, 2:4].mean(axis=(0, 1)), atol=1.5 / 255)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_pixels_of_each_channel_are_its_own(channels: int) -> None:
    """Pillow takes the last of 2 or 4 for an opacity."""
    picture = np.random.default_rng(5).random((12, 10, channels))
    alone = [apply("pixelate", picture[..., [each]], 0.5) for each in range(channels)]
    np.testing.assert_array_equal(apply("pixelate", picture, 0.5), np.concatenate(alone, axis=2))


def test_jpeg_is_of_one_or_three_channels(small_models: SmallModels, tmp_path: Path) -> None:
    two = Split(torch.zeros((4, 2, 8, 8), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    victim, images = weights_victim(small_models.student.weights), SplitSource(two, "two", 10)
    with pytest.raises(InputError, match="jpeg: is defined for images of 1 or 3 channels, came 2"):
        corrupt_set(victim, images, "jpeg", 3, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_fog_thickens_with_its_clouds_and_never_darkens_the_black() -> None:
    rng = np.random.default_rng(0)
    clouds = plasma(20, 2, rng)
    assert clouds.shape == (32, 32)
    assert (clouds.min(), clouds.max()) == (0, 1)

    # Neighbours are more alike than strangers, more so the faster detail falls off.
    def roughness(decay: float) -> float:
        field = plasma(64, decay, np.random.default_rng(1))
        return float(np.abs(np.diff(field, axis=0)).mean() / field.std())

    assert roughness(3) < roughness(1.4) < 1.0
    black = np.zeros((8, 8, 3))
    black[0, 0] = 1
    foggy = apply("fog", black, 1, 2)
    assert foggy[1:].min() >= 0
    assert foggy.max() <= 1


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_higher_severity_moves_an_image_farther(name: str, channels: int) -> None:
    rng = np.random.default_rng(2)
    smooth = np.cumsum(rng.normal(size=(6, channels, 32, 32)), axis=3) * 12 + 128
    levels = np.clip(smooth, 0, 255).astype(np.uint8)
    far = [
        float(np.abs(corrupted(levels, name, s, seed=0).astype(int) - levels).mean())
        for s in (1, 3, 5)
    ]
    assert far == sorted(far)
    assert far[0] < far[2]


def test_an_image_s_draws_follow_from_the_seed_and_its_index_alone() -> None:
    levels = np.random.default_rng(3).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    whole = corrupted(levels, "gaussian_noise", 3, seed=1)
    parts = [corrupted(levels[i : i + 2], "gaussian_noise", 3, seed=1, first=i) for i in (0, 2, 4)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, corrupted(levels, "gaussian_noise", 3, seed=2))


@pytest.mark.parametrize("text", ["fog", "fog:0", "fog:6", "mist:3", "fog:3:1", ":3"])
def test_what_is_no_corruption_is_refused_with_all_that_are(text: str) -> None:
    with pytest.raises(InputError, match=r"expected NAME:SEVERITY.*pixelate and 1 to 5"):
        parse_corruption(text)


def test_a_set_says_what_weights_or_the_parent_make_of_it_and_goes_on(
    small_models: SmallModels, small_int8: Path, source: SplitSource, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    module, _ = load_model(weights)
    victim = weights_victim(weights)
    made = corrupt_set(victim, source, "fog", 4, tmp_path / "fog", batch_size=BATCH)
    found = open_set(tmp_path / "fog")
    assert found.parent is not None
    images = [torch.from_numpy(np.array(a)) for a in (found.clean, found.images)]
    theirs = np.stack([predict(module, as_float(a)).numpy() for a in images], axis=1)
    assert np.array_equal(found.parent, theirs)
    assert np.array_equal(found.source_success, theirs[:, 1] != found.labels)
    assert made.parent_sha256 == made.source_sha256 == victim.sha256
    with open_victim(small_int8, parent=weights, threads=1) as artefact:
        corrupt_set(artefact, source, "fog", 4, tmp_path / "other")
    other = open_set(tmp_path / "other")
    assert np.array_equal(other.images, found.images)
    assert other.parent is not None
    assert np.array_equal(other.parent, found.parent)
    with open_victim(small_int8, threads=1) as artefact:
        alone = corrupt_set(artefact, source, "fog", 4, tmp_path / "alone")
    assert alone.parent_sha256 is None
    assert open_set(tmp_path / "alone").parent is None


def test_corruptions_are_told_and_gated_beside_the_worst_case(
    small_models: SmallModels, small_int8: Path, source: SplitSource, tmp_path: Path
) -> None:
    victim = weights_victim(small_models.student.weights)
    for severity in (2, 5):
        out = tmp_path / f"contrast{severity}"
        corrupt_set(victim, source, "contrast", severity, out)
    report = run_bench(small_int8, [open_set(p) for p in sorted(tmp_path.iterdir())], QUICK)
    assert worst_case_mask(report) is None
    assert any("none of --sets is an attack" in doubt for doubt in doubts_in(report))
    mean, loss = corruption_accuracy(report), corruption_loss(report)
    assert mean is not None
    assert loss is not None
    assert mean.value == pytest.approx(np.mean([accuracy(s.mask) for s in report.sets]))
    theirs = np.mean([1 - open_set(p).source_success.mean() for p in tmp_path.iterdir()])
    assert loss.value == pytest.approx(1 - mean.value / theirs)
    told = summarise(report)
    assert told["corruption"]["mean_accuracy"] == mean.value
    assert told["robust_accuracy"] == {}
    condition = parse_condition(f"corruption >= {mean.value + 0.01:.4f}")
    assert evaluate(report, Policy(conditions=(condition,))).status == "failed"
    tampered = replace(report.sets[0].manifest.attack, severity=3)
    assert tampered != report.sets[1].manifest.attack


def test_the_command_makes_a_set_and_refuses_what_belongs_to_attacks(
    small_models: SmallModels, tmp_path: Path
) -> None:
    common = ["attack", str(small_models.student.weights), "--corruption", "jpeg:5"]
    common += ["--out", str(tmp_path / "s"), "--limit", "20"]
    ended = CliRunner().invoke(app, common)
    assert ended.exit_code == 0, ended.output
    assert "20 images, jpeg:5; student.safetensors keeps" in " ".join(ended.output.split())
    refused = CliRunner().invoke(app, [*common, "--epsilon", "8/255", "--force"])
    assert refused.exit_code != 0
    assert "--corruption is no attack" in " ".join(refused.stderr.split())
    for ignored in (("--norm", "l2"), ("--restarts", "4")):
        refused = CliRunner().invoke(app, [*common, *ignored, "--force"])
        assert refused.exit_code != 0
        assert f"{' '.join(ignored)}: --corruption is no attack" in " ".join(refused.stderr.split())
