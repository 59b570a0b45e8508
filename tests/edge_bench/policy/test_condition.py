"""A condition says what people mean, and nothing that can never decide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_bench.core.errors import InputError
from edge_bench.policy.condition import parse_condition
from edge_bench.policy.policy_file import read_policy

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "metric", "form", "comparator", "limit"),
    [
        ("worst_case >= 0.45", "worst_case", "value", ">=", 0.45),
        ("clean>=90%", "clean", "value", ">=", 0.9),
        ("attack:pgd20 >= 45 %", "attack:pgd20", "value", ">=", 0.45),
        ("class:traffic light >= 0.2", "class:traffic light", "value", ">=", 0.2),
        ("drop(worst_case) <= 1%", "worst_case", "drop", "<=", 0.01),
        ("relative_drop( class:* ) <= 0.05", "class:*", "relative_drop", "<=", 0.05),
        ("latency_p95_ms <= 30", "latency_p95_ms", "value", "<=", 30.0),
        ("relative_rise(latency_p50_ms) <= 10%", "latency_p50_ms", "relative_rise", "<=", 0.1),
        ("images_per_second >= 100", "images_per_second", "value", ">=", 100.0),
        ("worst_case <= 99%", "worst_case", "value", "<=", 0.99),
        ("clean >= 1", "clean", "value", ">=", 1.0),
        ("drop(clean) <= 0", "clean", "drop", "<=", 0.0),
        ("relative_rise(size_bytes) <= 150%", "size_bytes", "relative_rise", "<=", 1.5),
    ],
)
def test_a_condition_is_read_as_it_is_written(
    text: str, metric: str, form: str, comparator: str, limit: float
) -> None:
    found = parse_condition(text)
    assert (found.metric, found.form, found.comparator) == (metric, form, comparator)
    assert found.limit == pytest.approx(limit)
    assert found.said == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("worst_case", "expected a condition such as"),
        ("worst_case > 0.4", "expected a condition such as"),
        ("robust >= 0.4", "expected a metric of clean, worst_case"),
        ("attack: >= 0.4", "expected a metric of"),
        ("fall(clean) <= 0.1", "expected one of drop, relative_drop"),
        ("clean >= 45", "or percent with its sign"),
        # Whatever was measured, it cannot fall by more than all of it.
        ("relative_drop(images_per_second) <= 5", "or percent with its sign"),
        ("clean >= nan", "expected a limit of 0 or more"),
        ("clean >= -1", "expected a limit of 0 or more"),
        ("latency_p95_ms >= 3", "expected latency_p95_ms <= LIMIT"),
        ("drop(latency_p95_ms) <= 3", "expected rise(latency_p95_ms) <= LIMIT"),
        ("drop(clean) >= 0.1", "expected drop(clean) <= LIMIT"),
        ("rise(images_per_second) <= 3", "expected drop(images_per_second) <= LIMIT"),
        ("latency_p95_ms <= 30%", "in the unit of latency_p95_ms, came percent"),
        ("rise(latency_p50_ms) <= 10%", "or relative_rise(latency_p50_ms), came percent"),
        ("drop(images_per_second) <= 5%", "or relative_drop(images_per_second), came percent"),
        ("drop(latency_p95_ms) <= 5%", "or relative_rise(latency_p95_ms), came percent"),
        ("size_bytes <= 5 %", "in the unit of size_bytes, came percent"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse_condition(text)
    assert sentence in str(error.value)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("critical = [", "expected TOML"),
        ("confidence = 0.95", "nothing to check"),
        ('criticl = ["no_doubts"]', "no field criticl"),
        ('critical = "no_doubts"', "expected a list of conditions for critical"),
        ('confidence = 95\ncritical = ["no_doubts"]', "between 0.5 and 1"),
        ('inconclusive = "ok"\ncritical = ["no_doubts"]', "expected exit or fail or pass"),
        ('max_age_days = true\ncritical = ["no_doubts"]', "expected a number above 0"),
        ('device = "toaster"\ncritical = ["no_doubts"]', "for device, came 'toaster'"),
        ('schema_version = 2\ncritical = ["no_doubts"]', "expected 1 for schema_version"),
        ('critical = ["clean >= 0.5", "clean >= 0.6"]', "clean >= stands 2 times"),
        ('critical = ["clean >= 0.9", "clean <= 0.5"]', "contradict each other"),
        ('critical = ["clean >= 0.9"]\nadvisory = ["clean <= 0.5"]', "contradict each other"),
    ],
)
def test_a_policy_that_says_nothing_or_too_much_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_policy(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_a_policy_keeps_tiers_and_their_order(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(
        'confidence = 0.9\ninconclusive = "fail"\nmax_age_days = 7\ndevice = "jetson"\n'
        'excuse = ["upper bound"]\nadvisory = ["size_bytes <= 9"]\n'
        'critical = ["clean >= 0.5", "drop(clean) <= 0.1"]\nsupporting = ["no_throttling"]\n',
        encoding="utf-8",
    )
    policy = read_policy(path)
    assert [(c.name, c.tier) for c in policy.conditions] == [
        ("clean", "critical"),
        ("drop(clean)", "critical"),
        ("no_throttling", "supporting"),
        ("size_bytes", "advisory"),
    ]
    assert (policy.confidence, policy.inconclusive, policy.max_age_days) == (0.9, "fail", 7)
    assert (policy.device, policy.excuse) == ("jetson", ("upper bound",))


def test_the_policy_of_the_page_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/gate-policy.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "gate.toml").write_text(block, encoding="utf-8")
        assert read_policy(tmp_path / "gate.toml").conditions
