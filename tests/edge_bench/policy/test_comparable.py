"""What was not measured alike is not compared: other machines, runtimes, batches, attacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.seals.content import sealed
from edge_bench.files.store import write_json
from edge_bench.policy.baseline import Baseline, baseline_of, read_baseline
from edge_bench.policy.broken import broken
from edge_bench.policy.condition import parse_condition
from edge_bench.policy.evaluate import Circumstances, evaluate
from edge_bench.policy.outcome import Outcome
from edge_bench.policy.policy_file import Policy, read_policy

MakeReport = Callable[..., Report]
Invoke = Callable[..., tuple[int, str, str]]
LATENCY = "relative_rise(latency_p50_ms) <= 10%"
THROUGHPUT = "relative_drop(images_per_second) <= 1%"


def decided(report: Report, condition: str, baseline: Baseline) -> Outcome:
    policy = Policy(conditions=(parse_condition(condition),))
    (found,) = evaluate(report, policy, Circumstances(baseline=baseline)).outcomes
    return found


def refused(report: Report, condition: str, baseline: Baseline) -> str:
    with pytest.raises(InputError) as error:
        decided(report, condition, baseline)
    return str(error.value)


def on(
    report: Report, *, backend: str = "ort", threads: int | None = None, **device: Any
) -> Report:
    return replace(
        report,
        device=replace(report.device, **device),
        backend=replace(report.backend, name=backend, threads=threads),
    )


@pytest.mark.parametrize("metric", ["latency_p50_ms", "latency_p95_ms", "memory_bytes"])
def test_times_and_memory_of_another_device_or_runtime_are_refused(
    make_report: MakeReport, metric: str
) -> None:
    slow, fast = make_report(latency_ms=[100.0] * 200), make_report(latency_ms=[5.0] * 200)
    old, asked = baseline_of(on(slow, device="rpi")), f"relative_rise({metric}) <= 10%"
    told = refused(on(fast, backend="openvino"), asked, old)
    assert "measured on rpi by ort, but the report on local by openvino" in told
    assert f"{asked} would compare machines" in told
    assert "on rpi by openvino" in refused(on(fast, device="rpi", backend="openvino"), asked, old)
    assert decided(on(fast, device="rpi"), asked, old).status == "passed"


def test_the_size_of_a_file_is_the_same_on_every_machine(make_report: MakeReport) -> None:
    old = baseline_of(on(make_report(size_bytes=1000), device="rpi", cpu="another"))
    found = decided(make_report(size_bytes=1001), "rise(size_bytes) <= 0", old)
    assert found.status == "failed"


@pytest.mark.parametrize(
    ("closer", "told"),
    [
        ({"cpu": "another CPU"}, "processor some CPU, now another CPU"),
        ({"board": "Pi 5"}, "board None, now Pi 5"),
        ({"power_mode": "15W"}, "power mode None, now 15W"),
        ({"threads": 4}, "threads None, now 4"),
    ],
)
def test_a_time_on_another_machine_of_the_kind_decides_nothing(
    make_report: MakeReport, closer: dict[str, Any], told: str
) -> None:
    old = baseline_of(make_report(latency_ms=[10.0] * 200))
    new = on(make_report(latency_ms=[20.0] * 200), **closer)
    found = decided(new, LATENCY, old)
    assert found.status == "inconclusive"
    assert told in found.sentence
    # Of a baseline that does not tell them nothing is known.
    untold = replace(old, board=None, cpu=None, power_mode=None, threads=None, images_a_call=None)
    assert decided(new, LATENCY, untold).status == "failed"
    assert decided(new, THROUGHPUT, untold).status == "failed"


def test_a_figure_of_0_is_nothing_to_compare_with(make_report: MakeReport) -> None:
    old = baseline_of(make_report(latency_ms=[10.0] * 200))
    nothing = replace(old, figures=old.figures | {"latency_p50_ms": 0.0})
    found = decided(make_report(latency_ms=[20.0] * 200), LATENCY, nothing)
    assert found.status == "failed"
    assert "was not measured in the baseline" in found.sentence


def test_throughput_at_other_images_a_call_is_refused(make_report: MakeReport) -> None:
    one = make_report()
    many = replace(one, throughput=replace(one.throughput, batch_size=64))
    told = refused(one, THROUGHPUT, baseline_of(many))
    assert "its throughput is of 64 images a call, that of the report of 1" in told
    assert decided(one, LATENCY, baseline_of(many)).status == "passed"
    assert decided(many, THROUGHPUT, baseline_of(many)).status == "passed"


def surviving(report: Report) -> Report:
    (result,) = report.sets
    manifest = replace(result.manifest, attacked="survivors")
    return replace(report, sets=(replace(result, manifest=manifest),))


def test_an_attack_on_survivors_is_not_that_on_all(make_report: MakeReport) -> None:
    everyone = make_report("1" * 100, {"square": "1" * 90 + "0" * 10})
    rest = surviving(make_report("1" * 100, {"square": "1" * 60 + "0" * 40}))
    one, worst = "drop(attack:square) <= 5%", "drop(worst_case) <= 5%"
    assert "they differ in square" in refused(rest, one, baseline_of(everyone))
    assert decided(rest, one, baseline_of(rest)).status == "passed"
    # Who was left out had been broken already, so the worst case is the same.
    assert decided(rest, worst, baseline_of(everyone)).status == "failed"
    # A baseline of before does not tell whom it attacked.
    old = baseline_of(everyone)
    untold = replace(old, sets=tuple(replace(one, attacked=None) for one in old.sets))
    assert decided(rest, one, untold).status == "failed"


def test_what_broke_is_not_told_across_other_attacks(make_report: MakeReport) -> None:
    weak = make_report("1" * 10, {"pgd": "1" * 10}, epsilon=2 / 255)
    strong = make_report("1" * 10, {"pgd": "1" * 5 + "0" * 5})
    found = broken(strong, baseline_of(weak))
    assert found is not None
    assert found.lost == ()
    # Nor does that keep anybody from comparing what was not attacked.
    assert decided(strong, "drop(clean) <= 0%", baseline_of(weak)).status == "passed"
    new, old = (replace(each, labels=encode_series([0, 1] * 5)) for each in (strong, weak))
    assert decided(new, "drop(clean_class:0) <= 0%", baseline_of(old)).status == "passed"
    assert "they differ in pgd" in refused(new, "drop(class:0) <= 0%", baseline_of(old))
    assert "they differ in pgd" in refused(strong, "drop(worst_case) <= 0%", baseline_of(weak))
    clean_lost = make_report("0" + "1" * 9, {"pgd": "0" + "1" * 4 + "0" * 5})
    across = broken(clean_lost, baseline_of(weak))
    assert across is not None
    assert across.lost == (0,)


def test_images_that_nobody_tells_are_not_the_same(make_report: MakeReport) -> None:
    report = make_report("1" * 100, {"pgd": "1" * 100})
    untold = replace(report, images_sha256=None)
    for new, old in ((untold, report), (report, untold), (untold, untold)):
        told = refused(new, "drop(clean) <= 1%", baseline_of(old))
        assert "does not tell its clean images" in told


def test_an_energy_below_idle_is_nothing_to_compare_with(
    make_report: MakeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_bench.policy import measured

    class Below:
        per_image_mj, uncertainty_mj, samples = -0.064, 0.1, 50

    monkeypatch.setattr(measured, "energy_per_image", lambda *given: Below)
    old = baseline_of(make_report("1" * 10, {"pgd": "1" * 10}))
    assert "energy_mj" not in old.figures
    write_json(tmp_path / "base.json", old, force=False)
    assert read_baseline(tmp_path / "base.json") == old
    assert decided(make_report("1" * 10), "drop(clean) <= 1%", old).status == "passed"


def test_a_baseline_that_nothing_compares_with_is_refused_wherever_it_is_given(
    make_report: MakeReport, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_bench.files.report_file import write_report

    monkeypatch.chdir(tmp_path)
    report = make_report("1" * 100, {"pgd": "1" * 100})
    write_report(tmp_path / "report.json", report, force=False)
    write_json(tmp_path / "base.json", baseline_of(report), force=False)
    (tmp_path / "gate.toml").write_text('critical = ["clean >= 10%"]', encoding="utf-8")
    given = ("report.json", "--policy", "gate.toml", "--baseline", "base.json")
    for command in ("gate", "attest"):
        code, _, error = invoke(command, *given)
        assert code == 2
        assert "expected both or neither, or a condition such as 'drop(worst_case)" in error
    assert not (tmp_path / "verdict.intoto.json").exists()


def test_a_policy_of_wrong_kinds_is_refused_in_a_sentence(tmp_path: Path, invoke: Invoke) -> None:
    policy = tmp_path / "gate.toml"
    for wrong in (
        'device = ["rpi"]',
        "device = {a = 1}",
        'inconclusive = ["pass"]',
        "confidence = 0.9999999999999999",
        "confidence = 0.5",
        "schema_version = true",
        "max_age_days = inf",
        "max_age_days = 0",
    ):
        policy.write_text(f'{wrong}\ncritical = ["clean >= 10%"]', encoding="utf-8")
        with pytest.raises(InputError, match="expected"):
            read_policy(policy)
    asked = ("gate", "none.json", "--min-clean-accuracy", 0.5, "--confidence")
    code, _, error = invoke(*asked, "0.9999999999999999")
    assert code == 2
    expected = "expected a number between 0.5 and 1, such as 0.95 (0.999999 at most)"
    assert f"--confidence 0.9999999999999999: {expected}" in error


def test_a_baseline_of_before_these_fields_is_read(make_report: MakeReport, tmp_path: Path) -> None:
    path, made = tmp_path / "base.json", baseline_of(make_report("1" * 10, {"pgd": "1" * 10}))
    write_json(path, made, force=False)
    fields = json.loads(path.read_text(encoding="utf-8"))
    for name in ("board", "cpu", "power_mode", "threads", "images_a_call"):
        del fields[name]
    del fields["sets"][0]["attacked"]
    older = sealed(Baseline, fields | {"schema_version": 4})
    path.write_text(json.dumps(older), encoding="utf-8")
    found = read_baseline(path)
    assert (found.images_a_call, found.sets[0].attacked) == (None, None)
    assert found.figures == made.figures
