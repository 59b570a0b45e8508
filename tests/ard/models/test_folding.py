"""The folded twin: the same function of the image, from weights of its own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ard.models.architectures import Classifier, build_model
from ard.models.folding import FoldedTwin
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
