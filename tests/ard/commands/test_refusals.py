"""What the commands answer to bad input, and that they leave alone what existed."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ard.attacks.registry import parse_attack
from ard.commands.attacking.unread import refuse_unread
from edge_bench.core.errors import InputError
from edge_bench.core.spec import SetManifest
from edge_bench.files.seals.content import sealed
from edge_bench.files.store import sha256_file

from ..conftest import SmallModels
from .typed import ardx, sentence

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "onnx", "sklearn", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
from ard.cli import app
app(sys.argv[1:])
"""


def test_fine_tuning_options_that_do_not_go_together_are_refused(
    small_models: SmallModels, tmp_path: Path
) -> None:
    student, teacher = small_models.student.weights, small_models.teacher.weights
    distill = ("distill", "--teacher", teacher, "--out", tmp_path / "q")
    assert "give them as --init" in sentence(*distill, "--qat")
    assert "add --qat" in sentence(*distill, "--init", student, "--target", "arm")
    quantised = (*distill, "--init", student, "--qat")
    assert "--target pentium: expected auto or one of x86" in sentence(
        *quantised, "--target", "pentium"
    )
    assert "--precision bf16: --qat needs fp32" in sentence(*quantised, "--precision", "bf16")
    assert "but the student is a resnet20" in sentence(*quantised, "--student", "resnet20")
    assert not (tmp_path / "q").exists()


NO_LEVELS = ("--weight-class", "0", "--weight-sample", "0", "--weight-discrepancy", "0")
ORDER_ALONE = (*NO_LEVELS[:4], "--set", "loss.ranking.discrepancy=order")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--method", "rslad", "--set", "loss.ranking.top=3"), "--set loss.ranking.top: rslad"),
        (("--method", "igdm", "--k", "3"), "--k: igdm does not read it"),
        (("--set", "loss.beta=3"), "--set loss.beta: ard on the anchor igdm does not read it"),
        (("--anchor", "ce", "--set", "loss.alpha=1"), "ard on the anchor ce does not read it"),
        (("--agreement", "spearman", "--normalisation", "cosine"), "--normalisation: beside"),
        ((*NO_LEVELS, "--k", "5"), "--k: beside the other settings of the ranking nothing reads"),
        ((*ORDER_ALONE, "--hard-teacher"), "--hard-teacher: beside"),
        ((*ORDER_ALONE, "--set", "loss.ranking.top=3"), "--set loss.ranking.top: beside"),
        (("--method", "rslad", "--inner", "ranking", "--weight-class", "2"), "--weight-class: "),
        (("--unlabelled-min-confidence", "0.5"), "add --unlabelled"),
        (("--set", "unlabelled_min_confidence=0.5"), "add --unlabelled"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(
    options: tuple[str, ...], named: str, small_models: SmallModels, tmp_path: Path
) -> None:
    error = sentence(*distill_digits(small_models), "--out", tmp_path / "d", *options)
    assert named in error
    assert "leave it out" in error
    assert list(tmp_path.iterdir()) == []


def test_what_a_recipe_says_of_another_method_is_no_mistake(
    small_models: SmallModels, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[loss]\nbeta = 3.0\n[loss.ranking]\ntop = 3\n", encoding="utf-8")
    # Nor is a default, which may be said of anything.
    recipe_of = ("--method", "ard", *ORDER_ALONE, "--no-hard-teacher", "--normalisation", "pairs")
    quick = ("--epochs", "1", "--inner-steps", "1", "--train-fraction", "0.1")
    command = (*distill_digits(small_models), "--config", recipe, "--method", "rslad", *quick)
    assert "by rslad" in ardx(*command, "--out", tmp_path / "d")
    assert "by ard" in ardx(*command, *recipe_of, "--out", tmp_path / "e")


def distill_digits(models: SmallModels) -> tuple[object, ...]:
    """The command but for its output."""
    digits = ("--dataset", "digits", "--student", "resnet8:4")
    return ("distill", *digits, "--teacher", models.teacher.weights)


def test_what_only_an_import_reads_is_refused_without_one(
    small_models: SmallModels, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    error = sentence("attack", weights, "--out", tmp_path / "s", "--import-key", "images=x")
    assert "--import-key images=x: only --import reads it" in error


@pytest.mark.parametrize(
    ("attacks", "options", "named"),
    [
        ("fgsm", ("--step-size", "1/255"), "--step-size 1/255: fgsm would not read it"),
        ("autoattack", ("--restarts", "2"), "--restarts 2: autoattack would not read it"),
        ("mi_fgsm3", ("--restarts", "2"), "--restarts 2: mi_fgsm3 would not read it"),
        ("square9", ("--backend", "openvino"), "is no artefact but weights, which torch computes"),
    ],
)
def test_what_no_attack_would_read_is_refused(
    attacks: str, options: tuple[str, ...], named: str, small_models: SmallModels, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    evaluate = ("evaluate", weights, "--out", tmp_path / "e.json", "--attacks", attacks)
    attack = ("attack", weights, "--out", tmp_path / "s", "--attack", attacks)
    for command in (evaluate, attack):
        error = sentence(*command, *options)
        assert named in error
        assert "leave" in error
        # What asks for another threat could not take its place.
        assert "diva" not in error
    assert list(tmp_path.iterdir()) == []


def test_attacks_of_the_same_threat_are_named_in_place_of_one_that_reads_no_steps() -> None:
    spec = parse_attack("apgd_diva2", epsilon=0.1)
    with pytest.raises(InputError, match=r"leave it out, or choose among divaN$"):
        refuse_unread([spec], "1/255", 1)


def test_one_attack_that_reads_an_option_is_enough(small_models: SmallModels) -> None:
    both = ("--attacks", "clean,fgsm,pgd1", "--step-size", "1/255", "--restarts", "2")
    assert "pgd1" in ardx("evaluate", small_models.student.weights, *both, "--limit", 9)
    clean = ("--attacks", "clean", "--restarts", "2")
    assert "--restarts 2: clean" in sentence("evaluate", small_models.student.weights, *clean)
    clean = ("--attacks", "clean", "--target-class", "3")
    assert "--target-class 3: clean" in sentence("evaluate", small_models.student.weights, *clean)


@pytest.mark.parametrize("fraction", ["nan", "inf", "0", "-1", "1.5"])
def test_a_train_fraction_that_is_none_is_refused_before_data_are_read(
    fraction: str, tmp_path: Path
) -> None:
    teach = ("teach", "--dataset", "cifar10", "--arch", "resnet8:4", "--data-dir", tmp_path)
    error = sentence(*teach, "--train-fraction", fraction, "--out", tmp_path / "t")
    assert f"--train-fraction {fraction}: expected a value above 0 and at most 1" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("epsilon", "named"),
    [("8", "8/255"), ("-8/255", "above 0"), ("0", "above 0"), ("eight", "fraction")],
)
@pytest.mark.parametrize("command", ["teach", "evaluate", "attack"])
def test_a_wrong_epsilon_gets_a_sentence(
    command: str, epsilon: str, named: str, small_models: SmallModels, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "out")
    arguments: dict[str, tuple[object, ...]] = {
        "teach": ("--dataset", "digits", "--arch", "resnet8:4", *out),
        "evaluate": (small_models.student.weights, *out),
        "attack": (small_models.student.weights, *out),
    }
    error = sentence(command, *arguments[command], f"--epsilon={epsilon}")
    assert "--epsilon" in error
    assert named in error
    assert list(tmp_path.iterdir()) == []


def bad_input(weights: Path, artifact: Path, folder: Path) -> list[tuple[tuple[object, ...], str]]:
    """Arguments, and what the sentence about them names."""
    torn, missing, out = folder / "torn.safetensors", folder / "missing", folder / "out.onnx"
    noise = folder / "noise.onnx"
    distill = ("distill", "--student", "resnet8:4", "--out", folder / "d")
    digits = (*distill, "--dataset", "digits", "--teacher", weights)
    return [
        (("evaluate", missing), "missing"),
        (("evaluate", torn), "torn.safetensors"),
        (("evaluate", artifact, "--mean", "0.5", "--std", "0.5"), "student.onnx"),
        (("evaluate", weights, "--attacks", "pgd20,deepfool"), "deepfool"),
        (("evaluate", weights, "--dataset", "imagenet"), "--dataset imagenet"),
        (("evaluate", weights, "--dataset", "cifar10", "--data-dir", folder), str(folder)),
        (("evaluate", weights, "--limit", "0"), "--limit"),
        (("evaluate", weights.parent), ".safetensors file"),
        (("evaluate", weights.parent / "checkpoint.safetensors"), "checkpoint to resume"),
        (("evaluate", weights, "--torch-device", "tpu"), "--torch-device tpu"),
        (("export", torn, "--out", folder / "new.onnx"), "torn.safetensors"),
        (("export", weights, "--out", folder / "new.bin"), ".onnx"),
        (("export", noise, "--out", noise, "--force"), "which is read"),
        (("evaluate", torn, "--out", torn, "--force"), "which is read"),
        (("evaluate", weights, "--parent", torn, "--out", torn, "--force"), "which is read"),
        (("export", weights, "--out", out), "--force"),
        (("export", weights, "--out", out, "--int8", "--target", "z80", "--force"), "z80"),
        (("export", weights, "--out", out, "--force", "--min-agreement", "2"), "min-agreement"),
        (("export", weights, "--out", out, "--force", "--target", "arm"), "--int8"),
        (("export", weights, "--out", out, "--force", "--int8", "--fp16"), "one precision"),
        (("export", weights, "--out", out, "--force", "--input", "uint16"), "--input uint16"),
        (("export", weights, "--out", out, "--force", "--batch", "0"), "--batch"),
        (("attack", weights, "--out", folder / "s", "--epsilon", "0.003"), "--off-grid"),
        (("attack", weights, "--attack", "noise", "--out", folder / "s"), "noise"),
        (("attack", torn, "--out", folder / "s"), "torn.safetensors"),
        (("attack", weights, "--out", folder / "s", "--images", missing), "--images"),
        (("attack", weights, "--out", folder / "s", "--import", missing), "missing"),
        (("attack", weights, "--out", folder / "s", "--import", torn), "torn.safetensors"),
        (("bench", missing, "--out", folder / "r"), "missing"),
        (("bench", noise, "--out", folder / "r"), "noise.onnx"),
        (("bench", folder / "torn.onnx", "--out", folder / "r"), "torn.onnx"),
        (("bench", weights, "--out", folder / "r"), str(weights)),
        (("gate", missing, "--min-robust-accuracy", "0.5"), "missing"),
        (("gate", artifact.with_name("report.json"), "--min-robust-accuracy", "45"), "0.45"),
        (("gate", artifact.with_name("report.json")), "nothing to check"),
        ((*distill, "--dataset", "digits", "--teacher", missing), "missing"),
        ((*distill, "--dataset", "digits", "--teacher", torn), "torn.safetensors"),
        ((*digits, "--method", "kd"), "kd"),
        ((*digits, "--k", "0"), "--k 0"),
        ((*digits, "--minutes", "0"), "--minutes"),
        ((*digits, "--student", "vgg"), "vgg"),
        ((*digits, "--epochs", "2", "--minutes", "1"), "give one of the two"),
        ((*distill, "--dataset", "digits", "--teacher", "t.pt"), "--teacher-arch"),
        ((*digits, "--method", "mtard"), "--clean-"),
        ((*distill, "--teacher", weights), "give --dataset"),
        (("teach", "--dataset", "digits", "--out", folder / "d"), "give --arch"),
    ]


def test_bad_input_names_the_file_and_leaves_outputs_alone(
    small_models: SmallModels, shipped: Path, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(weights.read_bytes()[:-50])
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    (tmp_path / "torn.onnx").write_bytes((shipped / "student.onnx").read_bytes()[:-2000])
    out = tmp_path / "out.onnx"
    out.write_bytes(b"from before")
    before = sorted(p.name for p in tmp_path.iterdir())
    for arguments, named in bad_input(weights, shipped / "student.onnx", tmp_path):
        assert named in sentence(*arguments), arguments
    assert out.read_bytes() == b"from before"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "d") == before


def test_a_set_of_another_shape_is_refused_at_the_bench(shipped: Path, tmp_path: Path) -> None:
    manifest = json.loads((shipped / "sets" / "pgd3" / "manifest.json").read_text())
    folder = tmp_path / "bigger"
    folder.mkdir()
    for name in manifest["arrays"]:
        array = np.load(shipped / "sets" / "pgd3" / name)
        if array.ndim == 4:
            array = np.repeat(array, 2, axis=3)
        np.save(folder / name, array)
    manifest["image_shape"] = [1, 8, 16]
    manifest["arrays"] = {name: sha256_file(folder / name) for name in manifest["arrays"]}
    (folder / "manifest.json").write_text(json.dumps(sealed(SetManifest, manifest)))
    error = sentence("bench", shipped / "student.onnx", "--sets", folder, "--out", tmp_path / "r")
    assert "(1, 8, 16)" in error
    assert "(1, 8, 8)" in error


@pytest.mark.parametrize("device", ["jetson", "rpi"])
def test_a_device_that_this_is_not_exits_3(shipped: Path, device: str, tmp_path: Path) -> None:
    error = sentence(
        "bench", shipped / "student.onnx", "--device", device, "--out", tmp_path / "r.json", code=3
    )
    assert f"--device {device}" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["teach", "--epochs", "abc"], "'--epochs'"),
        (["teach", "--dataset", "digits"], "'--out'"),
        (["frobnicate"], "'frobnicate'"),
        (["--frobnicate"], "--frobnicate"),
        (["bench", "--frobnicate"], "--frobnicate"),
        (["evaluate"], "'model'"),
        (["attack", "x", "--out", "y", "--seed", "-1"], "'--seed'"),
    ],
)
def test_a_usage_error_is_one_sentence_too(arguments: list[str], named: str) -> None:
    error = sentence(*arguments)
    assert named.lower() in error.lower()
    assert error.endswith(" --help")


@contextmanager
def full_disk(largest_file: int) -> Iterator[None]:
    """No file may grow beyond this, which fails a write as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("command", ["export", "attack", "teach", "bench"])
def test_a_full_disk_gets_a_sentence_and_spares_what_existed(
    command: str, small_models: SmallModels, shipped: Path, tmp_path: Path
) -> None:
    old = tmp_path / "out.onnx"
    if command in ("attack", "teach"):
        (tmp_path / "out.onnx").mkdir()
        old = (
            tmp_path
            / "out.onnx"
            / {"attack": "manifest.json", "teach": "teacher.safetensors"}[command]
        )
    old.write_bytes(b"from before")
    if command == "teach":
        (old.parent / "metrics.jsonl").write_bytes(b"from before")
    teach = ("--dataset", "digits", "--arch", "resnet8:4", "--method", "natural", "--epochs", "1")
    source: dict[str, tuple[object, ...]] = {
        "export": (small_models.student.weights,),
        "attack": (small_models.student.weights, "--attack", "fgsm"),
        "teach": teach,
        "bench": (shipped / "student.onnx", "--sets", shipped / "sets"),
    }
    with full_disk(8192):
        error = sentence(
            command, *source[command], "--out", tmp_path / "out.onnx", "--force", code=3
        )
    assert "free space" in error
    assert old.read_bytes() == b"from before"
    if command == "teach":
        assert (old.parent / "metrics.jsonl").read_bytes() == b"from before"
    # What a benchmark found so far stays: the same command goes on from there.
    kept = {".out.onnx.journal"} if command == "bench" else set()
    assert {path.name for path in tmp_path.rglob(".*")} == kept


def test_force_replaces_no_folder_that_is_not_such_an_output(
    small_models: SmallModels, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    weights = small_models.student.weights
    arguments = ("attack", weights, "--attack", "fgsm", "--out", tmp_path, "--force")
    assert "no earlier output" in sentence(*arguments)
    assert "no earlier output" in sentence("demo", "--out", tmp_path, "--force")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["bench", "--help"], 0), (["doctor"], 0), (["demo"], 3), (["teach"], 2)],
)
def test_without_torch_help_works_and_learning_says_what_to_install(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code == 3:
        assert "pip install 'ardx[train]'" in done.stderr
        assert done.stderr.count("\n") == 1
