"""Known teachers: the list, the architectures against their published names, and the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from ard.cli import app
from ard.data.splits import Dataset, Split
from ard.learning.teacher import load_teacher
from ard.models.architectures import ARCHITECTURES, Builder
from ard.models.published.checkpoints import (
    CLASSES,
    TEACHERS,
    KnownTeacher,
    teacher_named,
    teacher_of_file,
)
from ard.models.published.swish_resnets import SwishWideResNet
from ard.models.published.wide_resnets import WideResNet
from ard.models.weight_files import load_known
from edge_bench.core.errors import InputError
from edge_bench.files.store import sha256_file

RUNNER = CliRunner()
State = dict[str, Tensor]


# The published networks, written once more: functions of a state dict under its published names.


def norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.batch_norm(
        x,
        state[f"{name}.running_mean"],
        state[f"{name}.running_var"],
        state[f"{name}.weight"],
        state[f"{name}.bias"],
    )


def conv(x: Tensor, state: State, name: str, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], None, stride, padding)


def end(x: Tensor, state: State, name: str) -> Tensor:
    return F.linear(x.mean((2, 3)), state[f"{name}.weight"], state[f"{name}.bias"])


def trades_wide(x: Tensor, state: State) -> Tensor:
    x = conv(x, state, "conv1", padding=1)
    for stage in (1, 2, 3):
        at = f"block{stage}.layer.0"
        stride = 1 if stage == 1 else 2
        x = F.relu(norm(x, state, f"{at}.bn1"))
        inner = F.relu(norm(conv(x, state, f"{at}.conv1", stride, 1), state, f"{at}.bn2"))
        x = conv(x, state, f"{at}.convShortcut", stride) + conv(inner, state, f"{at}.conv2", 1, 1)
    return end(F.relu(norm(x, state, "bn1")), state, "fc")


def gowal_wide(x: Tensor, state: State) -> Tensor:
    x = conv(x, state, "init_conv", padding=1)
    for stage in (0, 1, 2):
        at = f"layer.{stage}.block.0"
        stride = 1 if stage == 0 else 2
        x = F.silu(norm(x, state, f"{at}.batchnorm_0"))
        padded = F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
        inner = F.silu(
            norm(conv(padded, state, f"{at}.conv_0", stride), state, f"{at}.batchnorm_1")
        )
        x = conv(x, state, f"{at}.shortcut", stride) + conv(inner, state, f"{at}.conv_1", 1, 1)
    return end(F.silu(norm(x, state, "batchnorm")), state, "logits")


def gowal_preact(x: Tensor, state: State) -> Tensor:
    x = conv(x, state, "conv_2d", padding=1)
    for stage in range(4):
        for block in range(2):
            at = f"layer_{stage}.{block}"
            stride = 2 if stage and not block else 1
            around = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
            inner = F.pad(F.silu(norm(x, state, f"{at}.batchnorm_0")), around)
            inner = conv(inner, state, f"{at}.conv_2d_1", stride)
            inner = F.silu(norm(inner, state, f"{at}.batchnorm_1"))
            if stride == 2:
                x = conv(F.pad(x, around), state, f"{at}.shortcut", stride)
            x = x + conv(inner, state, f"{at}.conv_2d_2", 1, 1)
    return end(F.silu(norm(x, state, "batchnorm")), state, "logits")


def preact(x: Tensor, state: State, *, raw: bool, final: bool) -> Tensor:
    x = conv(x, state, "conv1", padding=1)
    for stage in range(1, 5):
        for block in range(2):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and not block else 1
            active = F.relu(norm(x, state, f"{at}.bn1"))
            inner = F.relu(norm(conv(active, state, f"{at}.conv1", stride, 1), state, f"{at}.bn2"))
            if stride == 2:
                x = conv(x if raw else active, state, f"{at}.shortcut.0", stride)
            x = x + conv(inner, state, f"{at}.conv2", 1, 1)
    return end(F.relu(norm(x, state, "bn")) if final else x, state, "linear")


def resnet(x: Tensor, state: State, *, blocks: tuple[int, ...], convolutions: int) -> Tensor:
    x = F.relu(norm(conv(x, state, "conv1", padding=1), state, "bn1"))
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and not block else 1
            inner = x
            for index in range(1, convolutions + 1):
                kernel = state[f"{at}.conv{index}.weight"].shape[-1]
                # A bottleneck strides in its 3x3, a basic block in its first.
                strided = index == (2 if convolutions == 3 else 1)
                inner = conv(
                    inner, state, f"{at}.conv{index}", stride if strided else 1, kernel // 2
                )
                inner = norm(inner, state, f"{at}.bn{index}")
                inner = F.relu(inner) if index < convolutions else inner
            if f"{at}.shortcut.0.weight" in state:
                x = norm(conv(x, state, f"{at}.shortcut.0", stride), state, f"{at}.shortcut.1")
            x = F.relu(x + inner)
    return end(x, state, "linear")


Reference = Callable[[Tensor, State], Tensor]
REFERENCES: dict[str, Reference] = {
    "resnet18": lambda x, s: resnet(x, s, blocks=(2, 2, 2, 2), convolutions=2),
    "resnet50_cifar": lambda x, s: resnet(x, s, blocks=(3, 4, 6, 3), convolutions=3),
    "preact_resnet18_raw": lambda x, s: preact(x, s, raw=True, final=False),
    "preact_resnet18_bn": lambda x, s: preact(x, s, raw=False, final=True),
    "preact_resnet18_swish": gowal_preact,
}
SMALL: dict[bool, Builder] = {
    False: lambda channels, classes, _: WideResNet(10, 2, channels, classes),
    True: lambda channels, classes, _: SwishWideResNet(10, 2, channels, classes),
}


def reference(architecture: str) -> Reference:
    if architecture.startswith("wrn"):
        return gowal_wide if architecture.endswith("_swish") else trades_wide
    return REFERENCES[architecture]


@pytest.fixture
def shrunken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every WideResNet becomes a WRN-10-2: one block a stage, every kind of layer."""
    for name in list(ARCHITECTURES):
        if name.startswith("wrn"):
            monkeypatch.setitem(ARCHITECTURES, name, SMALL[name.endswith("_swish")])


def network_of(architecture: str, classes: int) -> nn.Module:
    """A network with weights and statistics that let no layer pass unnoticed."""
    torch.manual_seed(0)
    network = ARCHITECTURES[architecture](3, classes, 0).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
    return network


def published_state(architecture: str, classes: int) -> State:
    """Weights under the names of the published code, which has no torchvision's names."""
    state = dict(network_of(architecture, classes).state_dict())
    if architecture.startswith("resnet"):
        state = {
            n.replace("downsample", "shortcut").replace("fc.", "linear."): t
            for n, t in state.items()
        }
    return state


def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def as_channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).reshape(1, 3, 1, 1)


# One teacher for each way in which files differ: architecture, classes, normalisation.
KINDS = {
    (t.architecture, t.dataset, t.mean, t.std, t.unused): key
    for key, t in reversed(TEACHERS.items())
}


@pytest.mark.usefixtures("shrunken")
@pytest.mark.parametrize("key", sorted(KINDS.values()))
def test_a_published_file_computes_what_its_published_code_does(key: str, tmp_path: Path) -> None:
    teacher = TEACHERS[key]
    state = published_state(teacher.architecture, CLASSES[teacher.dataset])
    saved = {f"module.{n}": t for n, t in state.items()}
    saved |= {f"module.{unused}model.conv1.weight": torch.ones(1) for unused in teacher.unused}
    if teacher.architecture.startswith("wrn") and not teacher.architecture.endswith("_swish"):
        saved["module.sub_block1.layer.0.bn1.weight"] = torch.ones(16)
    path = tmp_path / teacher.files[0].name
    torch.save({"state_dict": saved, "epoch": 76}, path)
    model, sha256 = load_known(path, teacher)
    assert sha256 == sha256_file(path)
    x = images()
    normalised = (x - as_channels(teacher.mean)) / as_channels(teacher.std)
    with torch.no_grad():
        expected = reference(teacher.architecture)(normalised, state)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (2, CLASSES[teacher.dataset])
    assert expected.std() > 1e-3


@pytest.mark.usefixtures("shrunken")
def test_the_authors_own_wrapping_and_a_normalisation_inside_are_understood(tmp_path: Path) -> None:
    """Wang et al. save a Sequential in a DataParallel; RobustBench's files hold mean and std."""
    teacher = TEACHERS["cifar100/Wang2023Better_WRN-28-10"]
    state = published_state(teacher.architecture, 100)
    averaged = {f"module.0.{n}": t for n, t in state.items()}
    other = {n: torch.zeros_like(t) for n, t in averaged.items()}
    torch.save(
        {"model_state_dict": averaged, "unaveraged_model_state_dict": other}, tmp_path / "a.pt"
    )
    inside = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}
    torch.save(state | inside, tmp_path / "b.pt")
    x = images()
    with torch.no_grad():
        usual = gowal_wide((x - as_channels(teacher.mean)) / as_channels(teacher.std), state)
        torch.testing.assert_close(load_known(tmp_path / "a.pt", teacher)[0](x), usual)
        own = gowal_wide((x - 0.5) / 0.25, state)
        torch.testing.assert_close(load_known(tmp_path / "b.pt", teacher)[0](x), own)


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        # As the published code counts them (robustbench 1.1.1), without TRADES' unused stage.
        ("wrn_28_10", 36.48),
        ("wrn_34_10", 46.16),
        ("wrn_34_20", 184.53),
        ("wrn_70_16", 266.80),
        ("wrn_28_10_swish", 36.48),
        ("wrn_34_10_swish", 46.16),
        ("wrn_34_20_swish", 184.53),
        ("wrn_70_16_swish", 266.80),
        ("wrn_82_8_swish", 79.13),
        ("wrn_94_16_swish", 365.92),
        ("resnet18", 11.17),
        ("resnet50_cifar", 23.52),
        ("preact_resnet18", 11.17),
        ("preact_resnet18_raw", 11.17),
        ("preact_resnet18_bn", 11.17),
        ("preact_resnet18_swish", 12.55),
    ],
)
def test_parameters_are_as_many_as_published(architecture: str, millions: float) -> None:
    with torch.device("meta"):
        network = ARCHITECTURES[architecture](3, 10, 0)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_list_is_consistent() -> None:
    assert {"cifar10/Zhang2019Theoretically", "cifar100/Chen2021LTD_WRN34_10"} <= set(TEACHERS)
    trades = TEACHERS["cifar10/Zhang2019Theoretically"]
    assert (trades.autoattack_accuracy, trades.epsilon) == (0.5308, "0.031")
    for key, teacher in TEACHERS.items():
        assert key == f"{teacher.dataset}/{teacher.name}"
        assert teacher.architecture in ARCHITECTURES
        assert 0.1 < teacher.autoattack_accuracy < teacher.clean_accuracy < 1
        depth_and_width = re.search(r"(\d\d)[_-](\d\d?)(?!\d)", teacher.name)
        if depth_and_width and teacher.architecture.startswith("wrn"):
            assert teacher.architecture.startswith("wrn_{}_{}".format(*depth_and_width.groups()))
        for file in teacher.files:
            assert teacher_of_file(Path("somewhere") / file.name, teacher.dataset) is teacher
            assert file.page.startswith("https://")
    urls = [f.url for t in TEACHERS.values() for f in t.files if f.url]
    assert len(urls) == len(set(urls))


def small_file(folder: Path, teacher: KnownTeacher, name: str | None = None) -> Path:
    path = folder / (name or teacher.files[0].name)
    torch.save(published_state(teacher.architecture, CLASSES[teacher.dataset]), path)
    return path


def test_an_unknown_or_ambiguous_teacher_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="Zhang2091: no such teacher is known; `ardx teachers`"):
        teacher_named("Zhang2091")
    with pytest.raises(InputError, match="used for cifar10 and cifar100; say which with --dataset"):
        teacher_named("Wang2023Better_WRN-28-10")
    with pytest.raises(InputError, match="a teacher of cifar10, expected one of cifar100"):
        teacher_named("Wong2020Fast", "cifar100")
    assert teacher_named("cifar100/Rice2020Overfitting").dataset == "cifar100"
    assert teacher_named("Rice2020Overfitting", "cifar10").dataset == "cifar10"
    assert teacher_of_file(Path("my_model.pt")) is None


def cifar(name: str) -> Dataset:
    """Enough of a dataset for a teacher to be matched with."""
    part = Split(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
    return Dataset(name=name, train=part, test=part, classes=CLASSES[name], flips=True)


@pytest.mark.usefixtures("shrunken")
def test_distillation_knows_a_teacher_by_its_file_or_its_name(tmp_path: Path) -> None:
    teacher = TEACHERS["cifar10/Rice2020Overfitting"]
    path = small_file(tmp_path, teacher)
    renamed = small_file(tmp_path, teacher, "renamed.pt")
    loaded = [
        load_teacher(path, None, cifar("cifar10")),
        load_teacher(renamed, "Rice2020Overfitting", cifar("cifar10")),
    ]
    x = images()
    expected = load_known(path, teacher)[0](x)
    for one in loaded:
        assert torch.equal(one.model(x), expected)
        assert one.sha256 == sha256_file(path if one is loaded[0] else renamed)
    # An architecture alone leaves out the normalisation that the file does not hold.
    bare = load_teacher(path, "wrn_34_20", cifar("cifar10")).model(x)
    assert not torch.allclose(bare, expected)
    with pytest.raises(InputError, match="give --teacher-arch, an architecture or a name"):
        load_teacher(renamed, None, cifar("cifar10"))
    with pytest.raises(InputError, match="a teacher of cifar10, expected one of cifar100"):
        load_teacher(renamed, "Wong2020Fast", cifar("cifar100"))


def ardx(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["teachers", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_the_command_lists_and_filters() -> None:
    everything = ardx()
    assert "…" not in everything
    assert re.search(
        r"Zhang2019Theoretically +cifar10 +wrn_34_10 +84.92 % +53.08 %\* +MIT", everything
    )
    assert "*: at L-inf 0.031 instead of 8/255" in everything
    assert "model_cifar_wrn.pt" in everything
    for page in {file.page for teacher in TEACHERS.values() for file in teacher.files}:
        assert page in everything
    of_100 = ardx("--dataset", "cifar100")
    assert "cifar100" in of_100
    assert "cifar10 " not in of_100
    listed = json.loads(ardx("--dataset", "cifar100", "--json"))["teachers"]
    assert [t["name"] for t in listed] == [
        t.name for t in TEACHERS.values() if t.dataset == "cifar100"
    ]
    (one,) = json.loads(ardx("--name", "Wong2020Fast", "--json"))["teachers"]
    assert one["architecture"] == "preact_resnet18_raw"
    assert "Example: ardx teachers" in ardx("--help")


@pytest.mark.usefixtures("shrunken")
def test_the_command_checks_a_file(tmp_path: Path) -> None:
    teacher = TEACHERS["cifar10/Zhang2019Theoretically"]
    path = small_file(tmp_path, teacher, "model_cifar_wrn.pt")
    said = ardx(path)
    assert f"{path}: loads as Zhang2019Theoretically (cifar10, wrn_34_10, " in said
    assert f"sha256 {sha256_file(path)}, to be compared by you" in said
    renamed = path.rename(tmp_path / "w.pt")
    told = json.loads(ardx(renamed, "--name", "Zhang2019Theoretically", "--json"))
    assert told["sha256"] == sha256_file(renamed)


@pytest.mark.usefixtures("shrunken")
def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    teacher = TEACHERS["cifar10/Zhang2019Theoretically"]
    state = published_state(teacher.architecture, 10)
    lacking = tmp_path / "model_cifar_wrn.pt"
    torch.save({n: t for n, t in state.items() if not n.startswith("fc.")}, lacking)
    ambiguous = tmp_path / "Wang2023Better_WRN-28-10.pt"
    torch.save(state, ambiguous)
    cases: list[tuple[tuple[object, ...], str]] = [
        ((lacking,), "2 weights are missing (network.fc.weight, network.fc.bias)"),
        ((lacking, "--name", "Wong2020Fast"), "layer1.0.bn1.weight"),
        ((lacking, "--dataset", "cifar100"), "a teacher of cifar10, expected one of cifar100"),
        ((tmp_path / "model.pt",), "no known teacher is published under this file name"),
        ((tmp_path / "Wong2020Fast.pt",), "found no file there"),
        ((ambiguous,), "say which with --dataset"),
        ((ambiguous, "--dataset", "cifar10"), "weights are missing"),
        (("--name", "Zhang2091"), "no such teacher is known"),
        (("--teacher-key", "ema"), "--teacher-key ema: is a place in FILE; name the file"),
        (("--torch-device", "tpu"), "--torch-device tpu: is of --measure"),
        (("--dataset", "digits"), "--dataset digits: no teacher of it is known"),
    ]
    for arguments, named in cases:
        error = ardx(*arguments, code=2)
        assert named in error, arguments
        assert error.startswith("error: ")
        assert error.count("\n") == 1


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from ard.cli import app; app(['teachers', '--json'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
