"""The changes that CONTRIBUTING.md shows are applied to a copy of the code, and used there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("ard", "deploy", "edge_bench")

PROGRAMS = {
    "attack": """
from ard.attacks.registry import parse_attack
from ard.attacks.run import run_attack
torch.manual_seed(0)
linear = torch.nn.Linear(12, 5)
model = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
images = 0.45 + 0.1 * torch.rand(64, 3, 2, 2)
logits = model(images)
labels = logits.argmax(1)
spec = parse_attack("deepfool5", epsilon=0.44)
found = run_attack(model, images, labels, spec, 0)
# Of a linear model the distance to the nearest boundary is known.
apart = linear.weight[labels].unsqueeze(1) - linear.weight
leads = logits.gather(1, labels.unsqueeze(1)) - logits
distance = (leads / apart.abs().sum(2)).scatter(1, labels.unsqueeze(1), torch.inf).amin(1)
near = distance < 0.4
assert near.sum() > 10
assert (model(found).argmax(1) != labels)[near].all()
length = (found - images).flatten(1).abs().amax(1)
assert torch.allclose(length[near], 1.02 * distance[near], rtol=1e-3)
told("evaluate", "deepfoolN")
""",
    "method": """
from ard.methods.parts.base import Logits, LossOptions
from ard.methods.registry import METHODS
clean, attacked = torch.randn(6, 4), torch.randn(6, 4)
given = Logits(student_clean=clean, student_adversarial=attacked)
terms = METHODS["alp"].terms(given, torch.zeros(6, dtype=torch.long), LossOptions())
assert torch.allclose(terms["pairing"], 0.5 * (clean - attacked).square().mean())
told("teach", "alp")
from ard.cli import app
code = run("teach --dataset digits --arch resnet8:2 --method alp --epochs 1 --inner-steps 1 "
           "--train-fraction 0.1 --epsilon 0.1 --beta 0.2 --out taught")
assert code == 0, code
""",
    "dataset": """
import bz2
import numpy as np
from pathlib import Path
from ard.data.datasets import load_dataset
from edge_bench.core.errors import InputError
try:
    load_dataset("usps", Path("."))
except InputError as error:
    assert "usps.bz2" in str(error)
else:
    raise AssertionError("nothing is there, and nobody said so")
# The official format, LIBSVM's: a label from 1 to 10, and 256 values from -1 to 1.
draw = np.random.default_rng(0)
for name in ("usps.bz2", "usps.t.bz2"):
    values = draw.choice([-1.0, 0.0, 1.0], (40, 256))
    lines = [
        f"{row % 10 + 1} " + " ".join(f"{i + 1}:{v}" for i, v in enumerate(values[row]))
        for row in range(40)
    ]
    Path(name).write_bytes(bz2.compress("\\n".join(lines).encode()))
found = load_dataset("usps", Path("."))
assert found.image_shape == (1, 16, 16)
assert found.class_names == tuple("0123456789")
assert found.test.labels.tolist() == [row % 10 for row in range(40)]
expected = np.select([values < 0, values > 0], [0, 255], 127).reshape(40, 1, 16, 16)
assert (found.test.images.numpy() == expected).all()
told("teach", "usps")
""",
    "architecture": """
from ard.models.architectures import build_model
model = build_model("lenet", 1, 10, torch.zeros(1), torch.ones(1))
assert model(torch.rand(2, 1, 12, 12)).shape == (2, 10)
code = run("teach --dataset digits --arch lenet --method natural --epochs 1 --out taught")
assert code == 2, code  # 8 pixels are fewer than it takes, and that is said before any training.
""",
    "runtime": """
from edge_bench.backends import BACKENDS
from edge_bench.core.errors import CapabilityError
told("bench", "ort-xnnpack")
told("evaluate", "ort-xnnpack")
output = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "300"}).output
assert "ort-xnnpack" in output
try:
    assert BACKENDS["ort-xnnpack"].here("ort-xnnpack")
except CapabilityError as error:
    assert "XnnpackExecutionProvider" in str(error)
""",
    "pipeline": """
import numpy as np
from pathlib import Path
from PIL import Image
from edge_bench.core.pictures.preprocessing import STRETCH, Preprocessing
from edge_bench.pictures.pipelines import Wish, open_way
levels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
Image.fromarray(levels).save("picture.png")
way = open_way("nearest", Wish(preprocessing=Preprocessing(side=4, policy=STRETCH), channels=3))
value = None
for _, step in way.steps:
    value = step(value, Path("picture.png"))
assert (value == levels[1::2, 1::2]).all()
assert "pillow" in way.versions
told("bench", "nearest")
""",
    "device": """
from pathlib import Path
from edge_bench.devices import probe
tree = Path("board/proc/device-tree")
tree.mkdir(parents=True)
(tree / "compatible").write_bytes(b"xunlong,orangepi-5\\0rockchip,rk3588s\\0")
(tree / "model").write_bytes(b"Orange Pi 5\\0")
found = probe("auto", Path("board"))
assert (found.device, found.board) == ("orange-pi", "Orange Pi 5"), found
told("bench", "orange-pi")
""",
}
# What is not ours takes seconds to import: it is imported once, and each change has its own fork.
SERVER = """
import json, os, sys, traceback
import numpy, onnxruntime, PIL.Image, sklearn.datasets, torch, torchvision, typer.testing
for line in sys.stdin:
    folder, program = json.loads(line)
    child = os.fork()
    if not child:
        code = 1
        try:
            os.chdir(folder)
            os.environ["PYTHONPATH"] = folder
            sys.path.insert(0, folder)
            sys.stdout = sys.stderr = open("output.txt", "w")
            assert not {"ard", "deploy", "edge_bench"} & sys.modules.keys()
            exec(program, {"__name__": "__main__"})
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(os.waitpid(child, 0)[1], flush=True)
"""
HEAD = """
import torch
from typer.testing import CliRunner
from ard.cli import app
def run(words):
    return CliRunner().invoke(app, words.split()).exit_code
def told(command, name):
    output = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300"}).output
    assert name in output, f"{command} --help does not name {name}"
"""


def diffs() -> dict[str, str]:
    """The changes by what they add, as the page has them."""
    text = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- adds: (\w+) -->\n```diff\n(.*?)```", text, re.DOTALL))


def test_the_page_shows_a_change_for_each_kind() -> None:
    assert diffs().keys() == PROGRAMS.keys()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Runs programs in folders: a line of both as JSON in, a line of how it ended out."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=tmp_path_factory.mktemp("server"),
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_change_of_the_page_applies_and_is_all_that_is_needed(
    kind: str, server: subprocess.Popen[str], tmp_path: Path
) -> None:
    for package in PACKAGES:
        # With the byte code of what the change does not touch, which would take seconds to make.
        shutil.copytree(CHECKOUT / package, tmp_path / package)
    subprocess.run(["git", "apply", "-p0"], input=diffs()[kind].encode(), cwd=tmp_path, check=True)
    assert server.stdin is not None
    assert server.stdout is not None
    print(json.dumps([str(tmp_path), HEAD + PROGRAMS[kind]]), file=server.stdin, flush=True)
    assert server.stdout.readline() == "0\n", (tmp_path / "output.txt").read_text("utf-8")
