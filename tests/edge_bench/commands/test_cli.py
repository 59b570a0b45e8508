"""`bench` and `gate` end with the right code, one sentence, and files that are whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_bench import devices
from edge_bench.core.spec import ModelCard, Report
from edge_bench.files.sets import MANIFEST
from edge_bench.files.store import read_json, sha256_file, write_json
from edge_bench.report.summary import summarise

MakeModel = Callable[..., Path]
MakeSet = Callable[..., Path]
MakeReport = Callable[..., Report]
Invoke = Callable[..., tuple[int, str, str]]

QUICK = (
    *("--runs", "3", "--seconds", "0", "--warmup", "0", "--settle-seconds", "0"),
    *("--threads", "1"),
)


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model()


@pytest.fixture
def sets(make_set: MakeSet) -> Path:
    """A folder of two sets."""
    make_set("fgsm")
    return make_set("pgd").parent


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


@pytest.fixture
def report(make_report: MakeReport, out: Path) -> Path:
    """A report file: clean accuracy 0.9, robust accuracy 0.6, 200 calls of 1 ms."""
    write_json(out, make_report("1111111110", {"pgd": "1111110000"}), False)
    return out


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_one_sentence(text: str) -> None:
    assert text.startswith("error: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1


# --- whole runs, in a process of their own ----------------------------------------------------


def test_a_benched_artefact_passes_and_fails_the_gate(model: Path, sets: Path, out: Path) -> None:
    bench = python(
        "-m", "edge_bench", "bench", model, "--sets", sets, "--out", out, "--json", *QUICK
    )
    assert bench.returncode == 0, bench.stderr
    summary = json.loads(bench.stdout)
    assert summary["clean_accuracy"] == 0.8

    worst = summary["worst_case_accuracy"]
    passed = python("-m", "edge_bench", "gate", out, "--min-robust-accuracy", worst)
    assert (passed.returncode, passed.stdout, passed.stderr) == (0, "gate: passed\n", "")

    failed = python("-m", "edge_bench", "gate", out, "--min-robust-accuracy", worst + 0.01)
    assert (failed.returncode, failed.stderr) == (1, "")
    assert failed.stdout.startswith("gate: worst-case robust accuracy is")
    assert failed.stdout.endswith("\ngate: failed\n")


def test_a_truncated_model_ends_a_process_with_one_sentence(
    model: Path, sets: Path, out: Path
) -> None:
    model.write_bytes(model.read_bytes()[:200])
    ended = python("-m", "edge_bench", "bench", model, "--sets", sets, "--out", out, *QUICK)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert_one_sentence(ended.stderr)
    assert not out.exists()


def test_a_full_disk_ends_with_one_sentence_and_the_old_report(model: Path, report: Path) -> None:
    before = report.read_bytes()
    # The limit is set inside, not by preexec_fn: forking beside the runtime's threads may hang.
    limited = (
        "import resource, runpy;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512));"
        "runpy.run_module('edge_bench', run_name='__main__')"
    )
    ended = python("-c", limited, "bench", model, "--out", report, "--force", "--json", *QUICK)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert_one_sentence(ended.stderr)
    assert f"{report}: File too large; free space" in ended.stderr
    assert report.read_bytes() == before
    assert sorted(p.name for p in report.parent.iterdir()) == ["model.onnx", "report.json"]


# --- bench ------------------------------------------------------------------------------------


def test_a_device_that_is_not_here_ends_with_code_3(invoke: Invoke, model: Path, out: Path) -> None:
    here = devices.probe("auto").device
    absent = next(name for name in ("jetson", "rpi") if name != here)
    code, _, text = invoke("bench", model, "--device", absent, "--out", out, *QUICK)
    assert code == 3
    assert_one_sentence(text)
    assert text.startswith(f"error: --device {absent}: ")


def test_a_missing_runtime_ends_with_code_3(
    invoke: Invoke, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, text = invoke("bench", model, "--out", out, *QUICK)
    assert code == 3
    assert_one_sentence(text)


def test_the_json_summary_is_that_of_the_written_report(
    invoke: Invoke, model: Path, sets: Path, out: Path
) -> None:
    code, stdout, _ = invoke("bench", model, "--sets", sets, "--out", out, "--json", *QUICK)
    written = read_json(out, Report, "a report")
    assert code == 0
    assert json.loads(stdout) == summarise(written) | {"report": str(out)}


def test_the_options_of_bench_reach_the_report(
    invoke: Invoke, model: Path, sets: Path, out: Path
) -> None:
    options = (
        *("--batch-size", 8, "--runs", 5, "--seconds", 0, "--warmup", 2, "--settle-seconds", 0),
        *("--threads", 1),
    )
    assert (
        invoke("bench", model, "--sets", sets, "--device", "local", "--out", out, *options)[0] == 0
    )
    written = read_json(out, Report, "a report")
    assert len(written.latency.latency_ns) == 5
    assert (written.latency.warmup_runs, written.throughput.batch_size) == (2, 8)
    assert (written.backend.threads, written.device.device) == (1, "local")


def test_preprocessing_options_reach_the_model(
    invoke: Invoke, model: Path, sets: Path, tmp_path: Path
) -> None:
    masks = []
    for name, options in (("bare", ()), ("normal", ("--mean", "0.9,0.1,0.5", "--std", "1,9,0.1"))):
        out = tmp_path / f"{name}.json"
        assert invoke("bench", model, "--sets", sets, "--out", out, *options, *QUICK)[0] == 0
        masks.append(read_json(out, Report, "a report").clean_mask)
    assert masks[0] != masks[1]


def test_people_get_tables_and_the_report_s_path(
    invoke: Invoke, model: Path, sets: Path, out: Path
) -> None:
    code, stdout, stderr = invoke("bench", model, "--sets", sets, "--out", out, *QUICK)
    assert code == 0
    for expected in ("clean", "80.0 %", "worst case", "latency p95", f"report: {out}"):
        assert expected in stdout
    *lines, note = stderr.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["bench", "1/3"],
        ["bench", "2/3"],
        ["bench", "3/3"],
    ]
    assert note.startswith(f"note: {model}: neither a hash inside nor a fingerprint beside it")


def test_a_run_without_sets_says_what_it_did_not_measure(
    invoke: Invoke, model: Path, out: Path
) -> None:
    code, _, stderr = invoke("bench", model, "--out", out, *QUICK)
    assert code == 0
    warning, note = stderr.splitlines()
    assert warning == "warning: no --sets given: accuracy and robustness were not measured"
    assert note.startswith("note: ")


@pytest.mark.parametrize(
    ("precision", "own", "warned"),
    [("int8", False, True), ("int8", True, False), ("fp32", False, False)],
)
def test_a_replay_on_an_int8_artefact_that_it_was_not_crafted_on_is_called_an_upper_bound(
    invoke: Invoke,
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    make_set: MakeSet,
    out: Path,
    precision: str,
    own: bool,
    warned: bool,
) -> None:
    path = make_model(card=make_card(precision=precision))
    folder = make_set(manifest={"source_sha256": sha256_file(path) if own else "f" * 64})
    _, _, stderr = invoke("bench", path, "--sets", folder, "--out", out, *QUICK)
    assert ("warning: " in stderr and "upper bound" in stderr) == warned


def test_an_existing_report_is_kept_without_force(
    invoke: Invoke, model: Path, report: Path
) -> None:
    before = report.read_bytes()
    code, _, text = invoke("bench", model, "--out", report, *QUICK)
    assert code == 2
    assert_one_sentence(text)
    assert "--force" in text
    assert report.read_bytes() == before


def test_an_existing_report_is_refused_before_anything_is_measured(
    invoke: Invoke, tmp_path: Path, report: Path
) -> None:
    _, _, text = invoke("bench", tmp_path / "none.onnx", "--out", report, *QUICK)
    assert text.startswith(f"error: {report} exists already")


def test_an_existing_report_is_replaced_with_force(
    invoke: Invoke, model: Path, report: Path
) -> None:
    assert invoke("bench", model, "--out", report, "--force", *QUICK)[0] == 0
    assert read_json(report, Report, "a report").artifact.path == model.name


def test_an_existing_report_is_kept_where_the_new_run_fails(
    invoke: Invoke, tmp_path: Path, report: Path
) -> None:
    before = report.read_bytes()
    code, _, _ = invoke("bench", tmp_path / "none.onnx", "--out", report, "--force", *QUICK)
    assert code == 2
    assert report.read_bytes() == before


def test_a_report_s_folder_is_made(invoke: Invoke, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "report.json"
    assert invoke("bench", model, "--out", out, *QUICK)[0] == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", 2),  # the folder itself
        ("model.onnx/report.json", 3),
        ("model.onnx/deep/report.json", 3),
        ("x" * 300 + ".json", 3),
    ],
)
def test_a_place_where_no_report_can_be_written_is_said_in_one_sentence(
    invoke: Invoke, model: Path, tmp_path: Path, name: str, code: int
) -> None:
    ended, _, text = invoke("bench", model, "--out", tmp_path / name, "--force", "--json", *QUICK)
    assert ended == code
    assert_one_sentence(text)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none.onnx",), "expected an ONNX model, found no file there"),
        ((".",), "expected an ONNX model, found a folder"),
        (("model.onnx", "--sets", "none"), "expected a folder of adversarial sets"),
        (("model.onnx", "--sets", "model.onnx"), "expected a folder of adversarial sets"),
        (("model.onnx", "--sets", "."), "no adversarial set in this folder"),
        (("model.onnx", "--device", "coral"), "--device coral: expected auto or one of"),
        (
            ("model.onnx", "--backend", "tflite"),
            "--backend tflite: expected one of ort, ort-cuda, ort-tensorrt, openvino, trt",
        ),
        (("model.onnx", "--mean", "a,b,c"), "--mean a,b,c: expected numbers with commas"),
        (("model.onnx", "--std", ""), "--std : expected numbers with commas"),
        (("model.onnx", "--mean", "0.5,0.5,0.5"), "--mean and --std: expected both"),
        (("model.onnx", "--mean", "0,0", "--std", "1,1"), "expected 3 values"),
        (("model.onnx", "--batch-size", "0"), "--batch-size 0: expected 1 or more"),
        (("model.onnx", "--runs", "0"), "--runs 0: expected 1 or more"),
        (("model.onnx", "--warmup", "-1"), "--warmup -1: expected 0 or more"),
        (("model.onnx", "--threads", "0"), "--threads 0: expected 1 or more"),
        (("model.onnx", "--threads", "3000000000"), "expected 1 or more, and at most 1024"),
        (("model.onnx", "--batch-size", "2000000000"), "and at most 65536"),
        (("model.onnx", "--runs", str(2**31)), f"and at most {2**31 - 1}"),
        (("model.onnx", "--warmup", str(2**31)), f"and at most {2**31 - 1}"),
        (("model.onnx", "--seconds", "inf"), "--seconds inf: expected a time"),
        (("model.onnx", "--attack", "square"), "--attack square: needs images and their labels"),
        (("model.onnx", "--attack", "pgd20"), "--attack pgd20: expected square"),
        (("model.onnx", "--queries", "9"), "--queries: belongs to an attack; give --attack"),
        (("model.onnx", "--epsilon", "8/255"), "--epsilon: belongs to an attack; give --attack"),
        (("model.onnx", "--seed", "0"), "--seed: belongs to an attack; give --attack"),
        (("model.onnx", "--attack-all"), "--attack-all: belongs to an attack; give --attack"),
        (("model.onnx", "--attack", "square", "--queries", "0"), "--queries 0: expected 1 or more"),
        (("model.onnx", "--attack", "square", "--seed", "-1"), "--seed -1: expected 0 or more"),
        (("model.onnx", "--attack", "square", "--seed", str(2**31)), f"at most {2**31 - 1}"),
        (("model.onnx", "--attack", "square", "--queries", str(2**63)), f"at most {2**31 - 1}"),
        (("model.onnx", "--attack", "square", "--epsilon", "8"), "write 8/255 if you meant"),
    ],
)
def test_bad_input_of_bench_ends_with_code_2_and_one_sentence(
    invoke: Invoke,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(model.parent)
    code, stdout, stderr = invoke("bench", *QUICK, *arguments)
    assert (code, stdout) == (2, "")
    assert_one_sentence(stderr)
    assert sentence in stderr
    assert not Path("report.json").exists()


def test_square_joins_the_report_and_the_worst_case(
    invoke: Invoke, model: Path, sets: Path, out: Path
) -> None:
    square = ("--attack", "square", "--queries", 25, "--epsilon", "4/255", "--seed", 7)
    command = ("bench", model, "--sets", sets, "--out", out, *square, *QUICK)
    code, stdout, stderr = invoke(*command, "--attack-all")
    assert code == 0
    assert "black-box on this artefact " in stdout
    assert "bench 600/600 square25 " in stderr
    written = read_json(out, Report, "a report")
    attack = written.sets[-1].manifest.attack
    assert (attack.name, attack.epsilon, attack.seed) == ("square", 4 / 255, 7)

    code, stdout, _ = invoke(*command, "--json", "--force")
    summary = json.loads(stdout)
    assert code == 0
    assert summary["worst_case_accuracy"] == summary["robust_accuracy"]["square25"]
    assert summary["threat"]["square25"] == "black-box on this artefact, on what the others left"
    baseline = ("--baseline", out, "--max-robust-drop", 0)
    assert invoke("gate", out, *baseline)[:2] == (0, "gate: passed\n")


def test_a_budget_between_two_levels_says_what_is_used(
    invoke: Invoke, model: Path, sets: Path, out: Path
) -> None:
    square = ("--attack", "square", "--queries", 1, "--epsilon", "0.03")
    code, _, stderr = invoke("bench", model, "--sets", sets, "--out", out, *square, *QUICK)
    assert code == 0
    assert "warning: --epsilon 0.03 is 7.65 steps of the 8-bit grid; 7 are used\n" in stderr


def test_a_damaged_set_ends_with_code_2_and_one_sentence(
    invoke: Invoke, model: Path, sets: Path, out: Path
) -> None:
    (sets / "pgd" / MANIFEST).write_text("{", encoding="utf-8")
    code, _, stderr = invoke("bench", model, "--sets", sets, "--out", out, *QUICK)
    assert code == 2
    assert_one_sentence(stderr)


# --- gate -------------------------------------------------------------------------------------


def test_a_gate_tells_a_machine_what_failed(invoke: Invoke, report: Path) -> None:
    code, stdout, stderr = invoke("gate", report, "--min-robust-accuracy", 0.7, "--json")
    assert (code, stderr) == (1, "")
    (violation,) = json.loads(stdout)["violations"]
    assert violation["condition"] == "--min-robust-accuracy"
    assert violation["sentence"].startswith("worst-case robust accuracy is 0.6000")
    assert json.loads(stdout)["passed"] is False


def test_a_gate_tells_a_machine_that_all_passed(invoke: Invoke, report: Path) -> None:
    code, stdout, _ = invoke(
        "gate",
        report,
        "--min-clean-accuracy",
        0.9,
        "--min-robust-accuracy",
        0.6,
        "--max-latency-p95-ms",
        1,
        "--max-size-bytes",
        1000,
        "--baseline",
        report,
        "--max-robust-drop",
        0,
        "--json",
    )
    told = json.loads(stdout)
    assert (code, told["passed"], told["violations"], told["status"]) == (0, True, [], "passed")
    assert [o["status"] for o in told["outcomes"]] == ["passed"] * 5


@pytest.mark.parametrize(
    ("condition", "option"),
    [
        (("--min-clean-accuracy", "0.91"), "--min-clean-accuracy"),
        (("--max-latency-p95-ms", "0.9"), "--max-latency-p95-ms"),
        (("--max-size-bytes", "999"), "--max-size-bytes"),
    ],
)
def test_each_condition_of_the_command_line_reaches_the_gate(
    invoke: Invoke, report: Path, condition: tuple[str, ...], option: str
) -> None:
    code, stdout, _ = invoke("gate", report, *condition)
    assert code == 1
    assert f"{option} " in stdout


def test_a_gate_compares_with_a_baseline_file(
    invoke: Invoke, report: Path, make_report: MakeReport, tmp_path: Path
) -> None:
    write_json(tmp_path / "old.json", make_report("1" * 10, {"pgd": "1111111000"}), False)
    code, stdout, _ = invoke(
        "gate", report, "--baseline", tmp_path / "old.json", "--max-robust-drop", 0.05
    )
    assert code == 1
    assert "fell from 0.7000 to 0.6000" in stdout


def test_too_few_latency_samples_end_with_code_4(
    invoke: Invoke, make_report: MakeReport, out: Path
) -> None:
    write_json(out, make_report(latency_ms=[1.0] * 20), False)
    code, stdout, stderr = invoke("gate", out, "--max-latency-p95-ms", 5)
    undecided, verdict = stdout.splitlines()
    assert (code, verdict, stderr) == (4, "gate: inconclusive", "")
    assert undecided.startswith("gate: undecided: p95 latency needs 130 samples or more")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("report.json",), "nothing to check"),
        (("none.json", "--max-size-bytes", "9"), "expected a report of ardx bench, found no file"),
        ((".", "--max-size-bytes", "9"), "expected a report of ardx bench, found a folder"),
        (("torn.json", "--max-size-bytes", "9"), "expected a report of ardx bench as JSON"),
        (("report.json", "--min-robust-accuracy", "45"), "expected a fraction from 0 to 1"),
        (("report.json", "--max-latency-p95-ms", "0"), "expected a value above 0"),
        (("report.json", "--max-robust-drop", "0.1"), "compares with a baseline; give --baseline"),
        (("report.json", "--baseline", "report.json"), "nothing to check"),
        (
            ("report.json", "--baseline", "none.json", "--max-robust-drop", "0"),
            "none.json: expected a report",
        ),
    ],
)
def test_bad_input_of_gate_ends_with_code_2_and_one_sentence(
    invoke: Invoke,
    report: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(report.parent)
    text = report.read_text(encoding="utf-8")
    Path("torn.json").write_text(text[: len(text) // 2], encoding="utf-8")
    code, stdout, stderr = invoke("gate", *arguments)
    assert (code, stdout) == (2, "")
    assert_one_sentence(stderr)
    assert sentence in stderr


@pytest.mark.parametrize("command", ["bundle", "bench", "gate"])
def test_help_of_a_command_holds_an_example(invoke: Invoke, command: str) -> None:
    code, stdout, _ = invoke(command, "--help")
    assert code == 0
    assert f"Example: ardx {command}" in " ".join(stdout.split())
