"""The folded twin: the same function of the image, from weights of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn import utils
from torch.nn.utils import parametrizations, prune

from ard.models.architectures import Classifier, build_model
from ard.models.folding import FoldedTwin, for_attack, in_fastest_format
from ard.models.published.wide_resnets import WideResNet

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Trained-looking statistics: fresh ones are 0 and 1, which hides a wrong fold."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.num_features
            tensors = [module.weight, module.bias, module.running_mean, module.running_var]
            for tensor in tensors:
                if tensor is not None:
                    drawn = torch.rand(shape, dtype=tensor.dtype, generator=generator)
                    tensor.data.copy_(drawn + 0.5)
    return model


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "wrn_10_1":
        model: nn.Module = Classifier(WideResNet(10, 1, 3, 10), MEAN, STD)
    else:
        model = build_model(name, 3, 10, MEAN, STD)
    return randomise(model.double())


def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=generator)


def logits_and_gradient(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    inputs = inputs.clone().requires_grad_()
    logits: Tensor = model(inputs)
    (gradient,) = torch.autograd.grad((logits * torch.arange(logits.shape[1])).sum(), inputs)
    return logits.detach(), gradient


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet8:8", 0),
        ("resnet18", 0),
        ("mobilenet_v2", 0),
        # Before the activation: only the second norm of a block reads a convolution alone; the
        # first reads a sum, or the stem, which the skip connection reads as well.
        ("preact_resnet18", 8),
        ("wrn_10_1", 4),
    ],
)
def test_the_twin_gives_the_logits_and_input_gradients_of_the_model(name: str, left: int) -> None:
    model = network(name).eval()
    twin = FoldedTwin(model).module
    assert norms(twin) == left
    for found, expected in zip(
        logits_and_gradient(twin, images()), logits_and_gradient(model, images()), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_single_precision_loses_next_to_nothing() -> None:
    model = network("resnet8:8").float().eval()
    inputs = images().float()
    twin = FoldedTwin(model).module
    for found, expected in zip(
        logits_and_gradient(twin, inputs), logits_and_gradient(model, inputs), strict=True
    ):
        assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_the_twin_of_a_model_in_training_is_that_of_its_eval_mode() -> None:
    model = network("resnet8:8")
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(images())
    assert model.training
    torch.testing.assert_close(FoldedTwin(model).module(images()), expected)
    assert all(module.training for module in model.modules())


def test_the_twin_keeps_its_weights_until_it_is_refreshed() -> None:
    model = network("resnet8:8").eval()
    twin = FoldedTwin(model)
    with torch.no_grad():
        before = twin.module(images())
        for parameter in model.parameters():
            parameter.mul_(1.1)
        randomise(model, seed=5)
        assert torch.equal(twin.module(images()), before)
        torch.testing.assert_close(twin.refresh()(images()), model(images()))
        assert not torch.allclose(model(images()), before)


def test_refreshing_changes_nothing_in_the_model() -> None:
    model = network("resnet8:8")
    before = copy.deepcopy(model.state_dict())
    FoldedTwin(model).refresh()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_twin_wants_no_gradients_of_its_weights() -> None:
    twin = FoldedTwin(network("resnet8:8")).module
    assert not any(parameter.requires_grad for parameter in twin.parameters())


def traces(model: nn.Module) -> bool:
    try:
        fx.symbolic_trace(model)
    except (fx.proxy.TraceError, TypeError):
        return False
    return True


class Tower(nn.Module):
    """Two convolutions and norms that a subclass puts together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.BatchNorm2d(3)


def pooled(x: Tensor) -> Tensor:
    return x.square().mean(dim=(2, 3))


class FlowOnValues(Tower):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return pooled(x) if float(x.detach().sum()) > 0 else -pooled(x)


class ConvUsedTwice(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(self.conv(x)) + F.relu(self.conv(x.square())))


class ConvWithTwoUsers(Tower):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return pooled(self.norm(x) + x.square())


class NormUsedTwice(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(self.conv(x)) * self.norm(self.other(x.square())))


class NormAfterActivation(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(F.relu(self.conv(x))))


class NormBeforeConv(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.conv(self.norm(x)))


class NormOfTheBatch(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(self.conv(x)))


class NormByKeyword(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(input=self.conv(x)))


@pytest.mark.parametrize(
    "kind",
    [
        FlowOnValues,
        ConvUsedTwice,
        ConvWithTwoUsers,
        NormUsedTwice,
        NormAfterActivation,
        NormBeforeConv,
        NormOfTheBatch,
    ],
)
def test_what_cannot_be_folded_is_copied_as_it_is(kind: type[Tower]) -> None:
    torch.manual_seed(0)
    model = randomise(kind().double()).eval()
    assert traces(model) is (kind is not FlowOnValues)
    twin = FoldedTwin(model).module
    assert norms(twin) == 2
    torch.testing.assert_close(twin(images()), model(images()).detach())


class ConvsWithBias(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.second(self.other(F.relu(self.norm(self.conv(x))))))


@pytest.mark.parametrize(("kind", "left"), [(ConvsWithBias, 0), (NormByKeyword, 1)])
def test_less_usual_ways_of_writing_a_pair_are_folded_too(kind: type[Tower], left: int) -> None:
    torch.manual_seed(0)
    model = randomise(kind().double()).eval()
    twin = FoldedTwin(model).module
    assert norms(twin) == left
    torch.testing.assert_close(twin(images()), model(images()).detach())


class Standardised(nn.Conv2d):
    """Weight standardisation, as BiT's networks have it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name for it
        mean, std = (f((1, 2, 3), keepdim=True) for f in (self.weight.mean, self.weight.std))
        return F.conv2d(input, (self.weight - mean) / std, self.bias, padding=self.padding)


class Activated(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return F.relu(super().forward(input))


def standardised(tower: Tower) -> None:
    tower.conv = Standardised(3, 3, 3, padding=1)


def activated(tower: Tower) -> None:
    tower.norm = Activated(3)


def tied(tower: Tower) -> None:
    tower.other.weight = tower.conv.weight


def tied_norms(tower: Tower) -> None:
    tower.second.weight = tower.norm.weight


def named_twice(tower: Tower) -> None:
    tower.zenith, tower.above = tower.norm, tower.conv


def doubled(tower: Tower) -> None:
    tower.conv.register_forward_hook(lambda _, __, output: output * 2)


def doubled_before(tower: Tower) -> None:
    tower.norm.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))


def forward_of_its_own(tower: Tower) -> None:
    tower.conv.forward = lambda x: F.conv2d(x, tower.conv.weight * 2, padding=1)  # type: ignore


def on_both(wrap: Callable[[nn.Module], object]) -> Callable[[Tower], None]:
    def done(tower: Tower) -> None:
        for layer in (tower.conv, tower.other):
            wrap(layer)

    return done


def pruned(what: str) -> Callable[[Tower], None]:
    return on_both(partial(prune.l1_unstructured, name=what, amount=0.5))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "change",
    [
        on_both(parametrizations.spectral_norm),
        on_both(parametrizations.weight_norm),
        on_both(utils.spectral_norm),
        on_both(utils.weight_norm),
        *(pruned("weight"), pruned("bias")),
        *(standardised, activated, tied, tied_norms, named_twice),
        *(doubled, doubled_before, forward_of_its_own),
    ],
)
def test_layers_that_compute_something_else_are_not_folded(
    change: Callable[[Tower], None],
) -> None:
    torch.manual_seed(0)
    model = ConvsWithBias().double()
    change(model)
    randomise(model.double())
    twin = FoldedTwin(model)
    model.eval()
    torch.testing.assert_close(twin.module(images()), model(images()).detach())
    # What the wrappers keep beside the weights changes with them.
    model.train()(images())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    model.eval()
    torch.testing.assert_close(twin.refresh()(images()), model(images()).detach())


class ReadsTheWeights(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(self.conv(x))) * self.conv.weight.sum()


class OtherwiseInEval(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(self.conv(x)) if self.training else self.norm(self.conv(x) * 2))


class OtherwiseWhenTraced(Tower):
    """Tracing gives no tensors, so that it takes the other way."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return pooled(self.norm(x * 2 if isinstance(x, Tensor) else x))


@pytest.mark.parametrize("kind", [ReadsTheWeights, OtherwiseInEval, OtherwiseWhenTraced])
def test_networks_that_tracing_misreads_are_not_folded(kind: type[Tower]) -> None:
    torch.manual_seed(0)
    model = randomise(kind().double())
    twin = FoldedTwin(model)
    twin.check(images())
    assert model.training
    attacked, expected = for_attack(model)(images()), model.eval()(images()).detach()
    torch.testing.assert_close(twin.refresh()(images()), expected)
    torch.testing.assert_close(attacked, expected)


def test_a_check_leaves_what_is_right_folded_and_draws_no_random_numbers() -> None:
    model = network("resnet8:8")
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    twin = FoldedTwin(model)
    twin.check(images())
    assert norms(twin.module) == 0
    assert norms(for_attack(model)) == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class Viewed(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.norm(self.conv(x)).view(len(x), -1).view(len(x), 3, -1, 1))


@pytest.mark.parametrize("kind", [Viewed, ConvsWithBias])
def test_a_network_that_needs_the_other_layout_has_it(kind: type[Tower]) -> None:
    model = randomise(kind().double())
    fastest = torch.contiguous_format if kind is Viewed else torch.channels_last
    assert in_fastest_format(model, images()) is fastest
    assert model.conv.weight.is_contiguous(memory_format=fastest)  # type: ignore[operator, union-attr]
    attacked = for_attack(model)(images().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(attacked, model.eval()(images()).detach())
