"""A deployed artefact under attack: the runtime's values, its parent's gradients."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
from ard.attacks.steps.ascent import cross_entropy, gradient_and_logits
from ard.attacks.victims import attacked_for, open_victim, threat_named, weights_victim
from ard.crafting.craft import craft_set
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, Split, as_float, take_limit
from ard.evaluation.accuracy import evaluate_attack
from ard.models.deployed import Deployed
from ard.models.weight_files import load_model
from edge_bench.backends import open_backend
from edge_bench.backends.base import ImageInput
from edge_bench.core.errors import InputError
from edge_bench.core.spec import BackendInfo, ModelCard
from edge_bench.files.sets import open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.metrics import decode_mask

from ..conftest import EPSILON, SmallModels


class Steps:
    """A runtime whose model rounds its input so coarsely that it has no gradient anywhere."""

    info = BackendInfo(name="numpy", version=np.__version__, providers=(), threads=1)
    card: ModelCard | None = None
    engine_sha256: str | None = None

    def __init__(
        self,
        model: nn.Module,
        shape: tuple[int, int, int],
        *,
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self._model = model
        self.classes: int | None = None
        self.batches: list[NDArray[Any]] = []
        self.input = ImageInput(
            name="images",
            dtype=dtype,
            channels_last=False,
            image_shape=shape,
            batch_size=batch_size,
        )

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        self.batches.append(batch)
        images = torch.from_numpy(batch)
        images = as_float(images) if batch.dtype == np.uint8 else images
        with torch.no_grad():
            logits: Tensor = self._model((images * 16).round() / 16)
        return logits.numpy()

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def two_layers(pixels: int = 48, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(pixels, 16), nn.Tanh(), nn.Linear(16, classes)
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_the_values_are_the_runtimes_and_the_gradient_is_the_parents_there(
    small_models: SmallModels, small_int8: Path, digits: Dataset, runtime: str
) -> None:
    if runtime == "openvino" and find_spec("openvino") is None:
        pytest.skip("needs openvino")
    weights = small_models.student.weights
    split = take_limit(digits.test, 32)
    images, labels = as_float(split.images), split.labels
    parent, _ = load_model(weights)
    with open_backend(runtime, small_int8, 1) as backend:
        expected = torch.from_numpy(backend.infer(images.numpy()))
    with open_victim(small_int8, parent=weights, backend=runtime, threads=1) as victim:
        assert victim.runtime.startswith(runtime + " ")
        assert torch.equal(victim.module(images), expected)
        gradient, logits = gradient_and_logits(
            victim.module, images, lambda z: cross_entropy(z, labels)
        )
    assert torch.equal(logits, expected)
    # The chain rule by hand: the loss's derivative at the runtime's logits, times the parent's
    # Jacobian at the same image.
    one_hot = nn.functional.one_hot(labels, 10)
    inputs = images.clone().requires_grad_()
    parent(inputs).backward(expected.softmax(1) - one_hot)
    assert inputs.grad is not None
    torch.testing.assert_close(gradient, inputs.grad, rtol=1e-3, atol=1e-5)
    assert not torch.equal(expected, parent(images))


def test_bpda_and_square_break_a_model_whose_rounding_hides_its_gradients() -> None:
    smooth = two_layers()
    runtime = Steps(smooth, (3, 4, 4))
    deployed = Deployed(runtime, smooth, 5)
    alone = Deployed(runtime, None, 5)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(40, 3, 4, 4, generator=generator)
    labels = alone(images).argmax(1)

    class Rounded(nn.Module):
        """The same function in torch, whose own gradient is 0."""

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = smooth((x * 16).round() / 16)
            return logits

    def kept(model: nn.Module, name: str) -> float:
        spec = parse_attack(name, epsilon=0.3)
        found = run_attack(model, images, labels, spec, 0)
        return float((alone(found).argmax(1) == labels).float().mean())

    assert torch.equal(alone(images), Rounded()(images))
    masked = kept(Rounded(), "pgd20")
    assert masked > 0.7
    assert kept(deployed, "pgd20") < masked - 0.3
    assert kept(alone, "square300") < masked - 0.3


@pytest.mark.parametrize("batch_size", [None, 1, 16])
def test_a_graph_with_a_bound_batch_answers_any_number(batch_size: int | None) -> None:
    runtime = Steps(two_layers(), (3, 4, 4), batch_size=batch_size)
    images = torch.rand(21, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = Deployed(runtime, None, 5)(images)
    expected = Deployed(Steps(two_layers(), (3, 4, 4)), None, 5)(images)
    torch.testing.assert_close(found, expected)
    if batch_size:
        assert {len(batch) for batch in runtime.batches} == {batch_size}


def test_a_graph_that_reads_levels_is_given_the_nearest_ones() -> None:
    runtime = Steps(two_layers(), (3, 4, 4), dtype="uint8")
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    Deployed(runtime, None, 5)(images)
    (batch,) = runtime.batches
    assert batch.dtype == np.uint8
    assert np.abs(batch / 255 - images.numpy()).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 7.65 / 255), ("linf", 0.049), ("l2", 0.05)])
def test_an_attack_on_a_graph_that_reads_levels_stays_within_its_budget(
    norm: str, epsilon: float
) -> None:
    levels = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    smooth = two_layers()
    labels = smooth(levels / 255).argmax(1)
    split = Split(levels.to(torch.uint8), labels)
    runtime = Steps(smooth, (3, 4, 4), dtype="uint8")
    found = as_float(split.images)
    spec = parse_attack("pgd10", epsilon=epsilon, norm=norm)
    right = evaluate_attack(Deployed(runtime, smooth, 5), split, spec, found=found)
    given = (found * 255).round()
    torch.testing.assert_close(found, given / 255)
    order = torch.inf if norm == "linf" else 2
    change = torch.linalg.vector_norm((given - levels).double().flatten(1), ord=order, dim=1)
    assert float(change.max()) <= 255 * epsilon + 1e-9
    assert float(change.max()) > 0
    # Judged by what it was given.
    alone = Deployed(Steps(smooth, (3, 4, 4), dtype="uint8"), None, 5)
    assert (alone(found).argmax(1) == labels).tolist() == right.tolist()


def test_logits_that_are_no_numbers_end_the_attack() -> None:
    class Broken(Steps):
        def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
            return np.full((len(batch), 5), np.nan, dtype=np.float32)

    deployed = Deployed(Broken(two_layers(), (3, 4, 4)), two_layers(), 5)
    with pytest.raises(InputError, match=r"NaN or infinity.*export or quantise it again"):
        run_attack(
            deployed,
            torch.rand(2, 3, 4, 4),
            torch.tensor([0, 1]),
            parse_attack("pgd2", epsilon=0.1),
            0,
        )


def test_bpda_finds_at_least_what_a_replay_finds(
    small_models: SmallModels, small_int8: Path, digits: Dataset, tmp_path: Path
) -> None:
    split = take_limit(digits.test, 120)
    source = SplitSource(split, digits.name, digits.classes)
    spec = parse_attack("pgd10", epsilon=EPSILON)
    weights = small_models.student.weights
    craft_set(weights_victim(weights), source, spec, tmp_path / "replayed")
    with open_victim(small_int8, parent=weights, threads=1) as victim:
        craft_set(victim, source, spec, tmp_path / "adaptive", threat=victim.threat)
        both = evaluate_attack(victim.module, split, spec)
    sets = [open_set(tmp_path / name) for name in ("replayed", "adaptive")]
    adaptive = sets[1].manifest
    assert adaptive.threat == "bpda"
    assert adaptive.surrogate_sha256 == small_models.student.sha256
    options = BenchOptions(settle_seconds=0, threads=1, min_runs=1, min_seconds=0, warmup_runs=0)
    report = run_bench(small_int8, sets, options)
    kept = {result.name: decode_mask(result.mask) for result in report.sets}
    relations = {result.name: result.relation for result in report.sets}
    assert relations == {"replayed": "its parent", "adaptive": "this artefact"}
    # What crafting says of itself is what the bench finds on the same artefact.
    assert np.array_equal(kept["adaptive"], ~sets[1].source_success)
    # But for a few of 120 images that either attack just misses.
    assert kept["adaptive"].mean() <= kept["replayed"].mean() + 0.05
    assert abs(kept["adaptive"].mean() - both.mean()) < 0.05


def test_a_set_crafted_by_scores_is_what_the_device_finds(
    small_models: SmallModels, small_int8: Path, digits: Dataset, tmp_path: Path
) -> None:
    source = SplitSource(take_limit(digits.test, 30), digits.name, digits.classes)
    spec = parse_attack("square40", epsilon=EPSILON)
    with open_victim(small_int8, threads=1) as victim:
        for batch_size, name in ((30, "whole"), (7, "parts")):
            craft_set(
                victim,
                source,
                spec,
                tmp_path / name,
                threat="black-box",
                batch_size=batch_size,
            )
    whole, parts = open_set(tmp_path / "whole"), open_set(tmp_path / "parts")
    assert np.array_equal(whole.images, parts.images)
    right = evaluate_attack(
        load_model(small_models.student.weights)[0], take_limit(digits.test, 30), None
    )
    assert 0 < (whole.source_success & right).sum() < 30


def test_a_transferred_set_is_crafted_on_the_other_model(
    small_models: SmallModels, small_int8: Path
) -> None:
    teacher = small_models.teacher.weights
    with open_victim(small_int8, threads=1) as victim:
        assert threat_named("transfer", victim, teacher) == "transfer"
        with attacked_for(victim, "transfer", teacher, "cpu") as source:
            assert source.sha256 == small_models.teacher.sha256
            assert source.has_gradients


def test_a_set_is_transferred_from_the_graph_of_another_artefact(
    small_models: SmallModels, small_int8: Path
) -> None:
    weights = small_models.student.weights
    with attacked_for(weights_victim(weights), "transfer", small_int8, "cpu") as source:
        assert source.path == small_int8
        images = torch.rand(2, *source.card.input_shape, requires_grad=True)
        source.cheapest()(images).sum().backward()
        assert images.grad is not None
        assert images.grad.abs().max() > 0


def test_the_threats_that_a_victim_has_no_means_for_are_refused(
    small_models: SmallModels, small_int8: Path
) -> None:
    weights = weights_victim(small_models.student.weights)
    assert threat_named(None, weights, None) == "white-box"
    assert threat_named("blackbox", weights, None) == "black-box"
    with pytest.raises(InputError, match="--threat bpda: needs an artefact and its --parent"):
        threat_named("bpda", weights, None)
    with pytest.raises(InputError, match="blackbox, transfer or differential"):
        threat_named("grey", weights, None)
    with pytest.raises(InputError, match="transfer: needs --from"):
        threat_named("transfer", weights, None)
    with pytest.raises(InputError, match="white-box: has no use for --from"):
        threat_named(None, weights, small_models.teacher.weights)
    with open_victim(small_int8, threads=1) as alone:
        # Through the roundings of its own graph.
        assert threat_named(None, alone, None) == "bpda"
        assert alone.surrogate_sha256 == alone.sha256
        with pytest.raises(InputError, match="--threat white-box: needs weights, or an ONNX file"):
            threat_named("white-box", alone, None)
        blind = alone.blind("m.onnx has the operator NonZero")
    assert threat_named("blackbox", blind, None) == "black-box"
    for name in (None, "bpda"):
        with pytest.raises(InputError, match=r"the operator NonZero; give the weights .*square"):
            threat_named(name, blind, None)


def test_only_the_weights_of_an_artefact_are_its_parent(
    small_models: SmallModels, small_int8: Path
) -> None:
    with (
        pytest.raises(InputError, match=r"--parent .*teacher.*expected the weights that .*int8"),
        open_victim(small_int8, parent=small_models.teacher.weights),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"is no artefact but weights.*leave --parent out"),
        open_victim(small_models.student.weights, parent=small_models.teacher.weights),
    ):
        pass
