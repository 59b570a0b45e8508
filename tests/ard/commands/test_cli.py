"""The commands as a user types them, and what they answer to bad input."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from ard.cli import app
from ard.commands.doctor import examine
from ard.data.splits import Dataset
from ard.models.weight_files import load_model, save_model
from edge_bench.core.spec import SetManifest
from edge_bench.files.seal import sealed
from edge_bench.files.store import sha256_file

from ..conftest import SmallModels

RUNNER = CliRunner()
ARRAYS = ("images", "clean", "labels", "source_success")
QUICK_BENCH = ["--runs", "150", "--seconds", "0", "--warmup", "1", "--settle-seconds", "0"]


def ardx(*arguments: object, code: int = 0) -> str:
    """Run a command; give its stdout, or for an expected failure its stderr."""
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code in (0, 1) else result.stderr


def sentence(*arguments: object, code: int = 2) -> str:
    """Run a command that must fail with exactly one sentence and no traceback."""
    lines = ardx(*arguments, code=code).splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.fixture(scope="module")
def shipped(small_models: SmallModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with student.onnx, student-int8.onnx, sets/ and report.json, made by commands."""
    folder = tmp_path_factory.mktemp("shipped")
    weights = small_models.student.weights
    ardx("export", weights, "--out", folder / "student.onnx")
    ardx("export", weights, "--int8", "--target", "arm", "--out", folder / "student-int8.onnx")
    for name in ("pgd3", "cw3"):
        ardx("attack", weights, "--attack", name, "--out", folder / "sets" / name)
    bench = ("--sets", folder / "sets", "--device", "local", "--backend", "ort", *QUICK_BENCH)
    ardx("bench", folder / "student.onnx", *bench, "--out", folder / "report.json")
    return folder


def test_two_teachers_distil_with_scalars_for_tensorboard(
    small_models: SmallModels, tmp_path: Path
) -> None:
    weights = small_models.teacher.weights
    quick = ("--dataset", "digits", "--epsilon", "0.15", "--inner-steps", "1", "--epochs", "1")
    student = ("--student", "resnet8:4", "--tensorboard", "--out", tmp_path)
    two = ("--method", "mtard", "--teacher", weights, "--clean-teacher", weights)
    ardx("distill", *quick, *two, *student)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["terms"].keys() == {"kl_adversarial", "kl_clean"}
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_student_is_fine_tuned_quantised_and_exported_as_it_was_trained(
    small_models: SmallModels, tmp_path: Path
) -> None:
    student, teacher = small_models.student.weights, small_models.teacher.weights
    start = ("--init", student, "--teacher", teacher)
    quick = ("--epochs", "1", "--train-fraction", "0.2", "--inner-steps", "1")
    printed = ardx("distill", "--qat", "--target", "arm", *start, *quick, "--out", tmp_path / "q")
    assert "resnet8:8 by ard as INT8 for arm" in printed
    weights = tmp_path / "q" / "student.safetensors"
    # What was not given is as the student was trained, but for how far training moves it.
    _, card = load_model(weights)
    before = small_models.student.config
    assert card.recipe["batch_size"] == before.batch_size
    assert card.recipe["epsilon"] == before.epsilon
    assert card.recipe["learning_rate"] == 0.01
    # Its recipe repeats it, with what it starts from.
    again = ("--config", tmp_path / "q" / "config.toml", "--out", tmp_path / "again")
    ardx("distill", *start, *again)
    assert sha256_file(tmp_path / "again" / "student.safetensors") == sha256_file(weights)
    out = tmp_path / "int8.onnx"
    parity = json.loads(ardx("export", weights, "--int8", "--out", out, "--json"))["parity"]
    assert min(kind["agreement"] for kind in parity) >= 0.999


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


def test_teach_then_distill_write_what_they_say(tmp_path: Path) -> None:
    quick = ("--dataset", "digits", "--epsilon", "0.15", "--inner-steps", "1", "--epochs", "1")
    taught = json.loads(
        ardx(
            "teach",
            *quick,
            "--arch",
            "resnet8:4",
            "--method",
            "trades",
            "--json",
            "--out",
            tmp_path / "teacher",
        )
    )
    assert taught["method"] == "trades"
    assert Path(taught["weights"]).is_file()
    distilled = json.loads(
        ardx(
            "distill",
            *quick,
            "--teacher",
            taught["weights"],
            "--student",
            "resnet8:4",
            "--method",
            "ard",
            "--agreement",
            "spearman",
            "--anchor",
            "ce",
            "--json",
            "--out",
            tmp_path / "student",
        )
    )
    names = {p.name for p in (tmp_path / "student").iterdir()}
    files = {"student.safetensors", "config.toml", "metrics.jsonl", "checkpoint.safetensors"}
    assert names == files
    assert 0 <= distilled["validation"]["robust_accuracy"] <= 1
    again = sentence(
        "distill",
        *quick,
        "--teacher",
        taught["weights"],
        "--student",
        "resnet8:4",
        "--out",
        tmp_path / "student",
    )
    assert "--force" in again


def test_evaluate_prints_ordered_accuracies_and_writes_masks(
    small_models: SmallModels, tmp_path: Path
) -> None:
    arguments = (
        "evaluate",
        small_models.student.weights,
        "--attacks",
        "clean,fgsm,pgd3,cw3",
        "--limit",
        "80",
        "--out",
        tmp_path / "e.json",
    )
    found = json.loads(ardx(*arguments, "--json"))
    accuracy = found["accuracy"]
    assert list(accuracy) == ["clean", "fgsm", "pgd3", "cw3", "worst case"]
    assert accuracy["worst case"] <= min(accuracy.values())
    assert found["epsilon"] == 0.15
    masks = json.loads((tmp_path / "e.json").read_text())["masks"]
    assert {name: mask.count("1") / 80 for name, mask in masks.items()} == accuracy
    assert "pgd3" in ardx(*arguments, "--force")


def test_the_chain_from_export_to_gate(shipped: Path) -> None:
    report = json.loads((shipped / "report.json").read_text())
    assert report["artifact"]["card"]["precision"] == "fp32"
    assert {s["relation"] for s in report["sets"]} == {"its parent"}
    passed = ("gate", shipped / "report.json", "--min-robust-accuracy", "0.01")
    assert "gate: passed" in ardx(*passed, "--max-latency-p95-ms", "1000")
    failed = ardx("gate", shipped / "report.json", "--min-robust-accuracy", "0.99", code=1)
    assert "worst-case robust accuracy is" in failed
    assert "gate: failed" in failed


def test_an_int8_report_compares_with_the_fp32_baseline(shipped: Path, tmp_path: Path) -> None:
    result = RUNNER.invoke(
        app,
        [
            "bench",
            str(shipped / "student-int8.onnx"),
            "--sets",
            str(shipped / "sets"),
            "--out",
            str(tmp_path / "int8.json"),
            *QUICK_BENCH,
        ],
    )
    assert result.exit_code == 0
    assert "upper bound" in result.stderr
    gate = ("gate", tmp_path / "int8.json", "--baseline", shipped / "report.json")
    assert "passed" in ardx(*gate, "--max-robust-drop", "0.2")


def test_a_set_crafted_on_another_model_is_called_so(
    small_models: SmallModels, shipped: Path, tmp_path: Path
) -> None:
    ardx("attack", small_models.teacher.weights, "--attack", "fgsm", "--out", tmp_path / "fgsm")
    out = ardx(
        "bench",
        shipped / "student.onnx",
        "--sets",
        tmp_path / "fgsm",
        *QUICK_BENCH,
        "--out",
        tmp_path / "r.json",
    )
    assert "crafted on another model" in out


def test_pictures_of_a_folder_are_attacked(small_models: SmallModels, tmp_path: Path) -> None:
    for label in range(10):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True)
        for number in range(2):
            levels = np.random.default_rng([label, number]).integers(0, 256, (9, 9))
            picture = Image.fromarray(levels.astype(np.uint8))
            picture.save(tmp_path / "pictures" / str(label) / f"{number}.png")
    weights, out = small_models.student.weights, tmp_path / "s"
    pictures = ("--images", tmp_path / "pictures", "--attack", "fgsm", "--out", out)
    assert "9x9 pixels, but the model reads 8x8" in sentence("attack", weights, *pictures)
    assert not list(tmp_path.glob(".*"))
    told = json.loads(ardx("attack", weights, *pictures, "--image-size", "8", "--json"))
    assert told["samples"] == 20
    assert np.load(out / "labels.npy").tolist() == [label for label in range(10) for _ in "ab"]
    clash = sentence("attack", weights, *pictures, "--dataset", "digits", "--force")
    assert "leave --dataset out" in clash


def test_pictures_are_of_the_models_classes_by_their_folders_names(
    small_models: SmallModels, digits: Dataset, tmp_path: Path
) -> None:
    """A model of words, and folders of some of them, in another order than its own."""
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    model, card = load_model(small_models.student.weights)
    weights = tmp_path / "words.safetensors"
    save_model(weights, model, replace(card, class_names=words), False)
    for label in (7, 2, 9):
        (tmp_path / "p" / words[label] / ".ipynb_checkpoints").mkdir(parents=True)
        for number, image in enumerate(digits.test.images[digits.test.labels == label][:10]):
            path = tmp_path / "p" / words[label] / f"{number}.png"
            Image.fromarray(image[0].numpy()).save(path)
    command = ("attack", weights, "--images", tmp_path / "p", "--attack", "fgsm")
    crafted = (*command, "--epsilon", "1/255", "--out", tmp_path / "s")
    result = RUNNER.invoke(app, [str(each) for each in (*crafted, "--json")])
    assert "skipped: 3 hidden and system files" in result.stderr.splitlines()
    # Under one step of the grid most of 30 are right, by how the processor rounded three epochs of
    # training (25 of them, or 23 with AVX2); under labels by place, none would be.
    assert json.loads(result.stdout)["source_accuracy"] > 0.5
    assert set(np.load(tmp_path / "s" / "labels.npy").tolist()) == {2, 7, 9}
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert manifest["class_names"] == list(words)
    ardx("export", weights, "--out", tmp_path / "words.onnx")
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "words.onnx").metadata_props}
    assert json.loads(metadata["ardx_card"])["class_names"] == list(words)
    bench = ("--sets", tmp_path / "s", "--device", "local", "--backend", "ort", *QUICK_BENCH)
    ardx("bench", tmp_path / "words.onnx", *bench, "--out", tmp_path / "r.json")
    ardx("export", small_models.student.weights, "--out", tmp_path / "numbers.onnx")
    told = sentence("bench", tmp_path / "numbers.onnx", *bench, "--out", tmp_path / "n.json")
    assert "classes of other names: 'zero', 'one'" in told
    (tmp_path / "p" / "nine").rename(tmp_path / "p" / "neuf")
    told = sentence(*command, "--out", tmp_path / "t")
    assert "class 'neuf' is none of the model's; found 'neuf', 'seven', 'two', expected" in told
    assert not (tmp_path / "t").exists()


def test_a_set_of_another_library_is_imported_and_replayed(
    small_models: SmallModels, shipped: Path, tmp_path: Path
) -> None:
    arrays = {name: np.load(shipped / "sets" / "pgd3" / f"{name}.npy") for name in ARRAYS}
    theirs = {"x_adv": arrays["images"] / np.float32(255), "x": arrays["clean"]}
    np.savez_compressed(tmp_path / "theirs.npz", labels=arrays["labels"], **theirs)
    weights, out = small_models.student.weights, tmp_path / "sets" / "theirs"
    imported = ("attack", weights, "--import", tmp_path / "theirs.npz", "--out", out)
    assert "x_adv" in sentence(*imported)
    keys = ("--import-key", "images=x_adv,clean=x")
    beyond = sentence(*imported, *keys, "--epsilon", "1/255")
    assert "--epsilon 0.0039" in beyond
    for option in ("--limit", "--image-size", "--images", "--step-size"):
        assert f"leave {option} out" in sentence(*imported, *keys, option, "3")
    assert not out.exists()
    said = ardx(*imported, *keys, "--attack", "their attack")
    assert "their attack, L-inf 0.15" in said
    assert json.loads((out / "manifest.json").read_text())["threat"] == "imported"
    for name, array in arrays.items():
        assert np.array_equal(np.load(out / f"{name}.npy"), array)
    bench = ("bench", shipped / "student.onnx", "--sets", out.parent, *QUICK_BENCH)
    assert "theirs" in ardx(*bench, "--out", tmp_path / "r.json")


def test_what_only_an_import_reads_is_refused_without_one(
    small_models: SmallModels, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    error = sentence("attack", weights, "--out", tmp_path / "s", "--import-key", "images=x")
    assert "--import-key images=x: only --import reads it" in error


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


def test_bad_input_names_the_file_and_leaves_outputs_alone(
    small_models: SmallModels, shipped: Path, tmp_path: Path
) -> None:
    weights = small_models.student.weights
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(weights.read_bytes()[:-50])
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    (tmp_path / "torn.onnx").write_bytes((shipped / "student.onnx").read_bytes()[:-2000])
    missing = tmp_path / "missing"
    out = tmp_path / "out.onnx"
    out.write_bytes(b"from before")
    distill = ("distill", "--student", "resnet8:4", "--out", tmp_path / "d")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("evaluate", missing), "missing"),
        (("evaluate", torn), "torn.safetensors"),
        (("evaluate", shipped / "student.onnx"), "student.onnx"),
        (("evaluate", weights, "--attacks", "pgd20,deepfool"), "deepfool"),
        (("evaluate", weights, "--dataset", "imagenet"), "--dataset imagenet"),
        (("evaluate", weights, "--dataset", "cifar10", "--data-dir", tmp_path), str(tmp_path)),
        (("evaluate", weights, "--limit", "0"), "--limit"),
        (("evaluate", weights.parent), ".safetensors file"),
        (("evaluate", weights.parent / "checkpoint.safetensors"), "checkpoint to resume"),
        (("evaluate", weights, "--torch-device", "tpu"), "--torch-device tpu"),
        (("export", torn, "--out", tmp_path / "new.onnx"), "torn.safetensors"),
        (("export", weights, "--out", tmp_path / "new.bin"), ".onnx"),
        (("export", weights, "--out", out), "--force"),
        (("export", weights, "--out", out, "--int8", "--target", "z80", "--force"), "z80"),
        (("export", weights, "--out", out, "--force", "--min-agreement", "2"), "min-agreement"),
        (("export", weights, "--out", out, "--force", "--target", "arm"), "--int8"),
        (("export", weights, "--out", out, "--force", "--int8", "--fp16"), "one precision"),
        (("export", weights, "--out", out, "--force", "--input", "uint16"), "--input uint16"),
        (("export", weights, "--out", out, "--force", "--batch", "0"), "--batch"),
        (("attack", weights, "--out", tmp_path / "s", "--epsilon", "0.003"), "--off-grid"),
        (("attack", weights, "--attack", "noise", "--out", tmp_path / "s"), "noise"),
        (("attack", torn, "--out", tmp_path / "s"), "torn.safetensors"),
        (("attack", weights, "--out", tmp_path / "s", "--images", missing), "--images"),
        (("attack", weights, "--out", tmp_path / "s", "--import", missing), "missing"),
        (("attack", weights, "--out", tmp_path / "s", "--import", torn), "torn.safetensors"),
        (("bench", missing, "--out", tmp_path / "r"), "missing"),
        (("bench", tmp_path / "noise.onnx", "--out", tmp_path / "r"), "noise.onnx"),
        (("bench", tmp_path / "torn.onnx", "--out", tmp_path / "r"), "torn.onnx"),
        (("bench", weights, "--out", tmp_path / "r"), str(weights)),
        (("gate", missing, "--min-robust-accuracy", "0.5"), "missing"),
        (("gate", shipped / "report.json", "--min-robust-accuracy", "45"), "0.45"),
        (("gate", shipped / "report.json"), "nothing to check"),
        ((*distill, "--dataset", "digits", "--teacher", missing), "missing"),
        ((*distill, "--dataset", "digits", "--teacher", torn), "torn.safetensors"),
        ((*distill, "--dataset", "digits", "--teacher", weights, "--method", "kd"), "kd"),
        ((*distill, "--dataset", "digits", "--teacher", weights, "--k", "0"), "--k 0"),
        ((*distill, "--dataset", "digits", "--teacher", weights, "--minutes", "0"), "--minutes"),
        ((*distill, "--dataset", "digits", "--teacher", weights, "--student", "vgg"), "vgg"),
        (
            (
                *distill,
                "--dataset",
                "digits",
                "--teacher",
                weights,
                "--epochs",
                "2",
                "--minutes",
                "1",
            ),
            "give one of the two",
        ),
        ((*distill, "--dataset", "digits", "--teacher", "t.pt"), "--teacher-arch"),
        ((*distill, "--dataset", "digits", "--teacher", weights, "--method", "mtard"), "--clean-"),
        ((*distill, "--teacher", weights), "give --dataset"),
        (("teach", "--dataset", "digits", "--out", tmp_path / "d"), "give --arch"),
    ]
    before = sorted(p.name for p in tmp_path.iterdir())
    for arguments, named in cases:
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


def test_doctor_names_every_capability_and_its_mend() -> None:
    findings = {finding.capability.strip(): finding for finding in examine()}
    assert findings["bench --backend ort"].found
    assert "doctor" in ardx("--help")
    told = json.loads(ardx("doctor", "--json"))
    assert {name.strip() for name in told} == set(findings)


@pytest.mark.parametrize("name", [command.name for command in app.registered_commands])
def test_every_command_shows_an_example_in_its_help(name: str) -> None:
    assert f"Example: ardx {name}" in ardx(name, "--help")


def test_the_version_is_printed() -> None:
    from edge_bench import __version__

    assert ardx("--version") == f"ardx {__version__}\n"
