"""The domain model refuses values that no stage could use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.gate import Gate
from edge_bench.core.pictures.answers import Answers, ParentClasses
from edge_bench.core.spec import AttackSpec, ModelCard, Report, parse_epsilon, usual_epsilon
from edge_bench.core.timings import Measurement
from edge_bench.statistics.metrics import class_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/255", 8 / 255),
        (" 8/255 ", 8 / 255),
        ("0.03", 0.03),
        ("1e-3", 1e-3),
        ("254/255", 254 / 255),
    ],
)
def test_an_epsilon_is_a_fraction_or_a_decimal(text: str, expected: float) -> None:
    assert parse_epsilon(text) == expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("8", "below 1"),
        ("1", "below 1"),
        ("1.5", "below 1"),
        ("-8/255", "above 0"),
        ("0", "above 0"),
        ("abc", "8/255"),
        ("1/0", "8/255"),
        ("nan", "8/255"),
        ("inf", "8/255"),
        ("", "8/255"),
        ("8/255/255", "8/255"),
    ],
)
def test_a_bad_epsilon_is_refused_with_the_option_and_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_epsilon(text, "--train-epsilon")
    assert str(caught.value).startswith("--train-epsilon")
    assert remedy in str(caught.value)


def test_an_epsilon_of_whole_levels_is_met_with_the_fraction_that_was_meant() -> None:
    with pytest.raises(InputError, match=r"write 8/255 if you meant"):
        parse_epsilon("8")


@pytest.mark.parametrize("text", ["1.5", "3/2", "300", "255"])
def test_an_epsilon_beyond_the_grid_is_not_met_with_a_remedy_that_would_fail(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_epsilon(text)
    assert f"{text}/255" not in str(caught.value)


ATTACK: dict[str, Any] = {"name": "pgd", "epsilon": 8 / 255, "step_size": 2 / 255, "steps": 10}


def test_an_attack_may_choose_its_own_steps() -> None:
    spec = AttackSpec(**(ATTACK | {"step_size": None, "steps": None}))
    assert (spec.step_size, spec.steps) == (None, None)


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("norm", "l1", "norm"),
        ("epsilon", 0.0, "epsilon"),
        ("epsilon", 1.0, "epsilon"),
        ("epsilon", 8.0, "epsilon"),
        ("epsilon", float("nan"), "epsilon"),
        ("step_size", 0.0, "step size"),
        ("step_size", -0.01, "step size"),
        ("step_size", float("nan"), "step size"),
        ("steps", 0, "steps"),
        ("restarts", 0, "restarts"),
    ],
)
def test_an_impossible_attack_is_refused(field: str, value: object, what: str) -> None:
    with pytest.raises(InputError, match=f"attack {what} .*expected"):
        AttackSpec(**(ATTACK | {field: value}))


@pytest.mark.parametrize(
    ("field", "value", "came"),
    [
        ("classes", 1, "came 1"),
        ("classes", 10**12, "came 1000000000000"),
        ("input_shape", (8, 8), r"came \(8, 8\)"),
        ("input_shape", (3, 0, 8), r"came \(3, 0, 8\)"),
        ("precision", "int4", "came 'int4'"),
        ("session_options", {"session.disable_quant_qdq": "2"}, "of 0 or 1, came .* = '2'"),
    ],
)
def test_an_impossible_model_card_is_refused(
    make_card: Callable[..., ModelCard], field: str, value: object, came: str
) -> None:
    with pytest.raises(InputError, match=f"model card: expected .*{came}"):
        make_card(**{field: value})


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_model_card_takes_the_precisions_that_are_exported(
    make_card: Callable[..., ModelCard], precision: str
) -> None:
    assert make_card(precision=precision).precision == precision


@pytest.mark.parametrize("value", [-0.1, 1.1, 45.0, float("nan")])
@pytest.mark.parametrize("name", ["min_clean_accuracy", "min_robust_accuracy", "max_robust_drop"])
def test_a_gate_refuses_percent_where_it_reads_fractions(name: str, value: float) -> None:
    option = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=f"^{option} .*fraction from 0 to 1"):
        Gate(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["max_latency_p95_ms", "max_size_bytes", "max_energy_mj"])
def test_a_gate_refuses_limits_that_nothing_or_everything_meets(name: str, value: float) -> None:
    option = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=f"^{option} .*above 0"):
        Gate(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["min_clean_accuracy", "min_robust_accuracy", "max_robust_drop"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_gate_takes_the_ends_of_the_fractions(name: str, value: float) -> None:
    assert getattr(Gate(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("clean_mask", "sets"),
    [
        ("", {}),
        ("01x", {}),
        ("0é1", {}),
        ("011", {"pgd": "01"}),
        ("011", {"pgd": ""}),
        (None, {"pgd": "011"}),
    ],
)
def test_a_report_refuses_masks_that_no_run_writes(
    make_report: Callable[..., Report], clean_mask: str | None, sets: dict[str, str]
) -> None:
    with pytest.raises(InputError, match="mask"):
        make_report(clean_mask, sets)


@pytest.mark.parametrize("counts", [(3, 0), (0, 2), (-1, 0), (0, -1)])
def test_a_set_refuses_counts_beside_its_source_that_its_mask_does_not_have(
    make_report: Callable[..., Report], counts: tuple[int, int]
) -> None:
    (result,) = make_report("111", {"pgd": "110"}).sets
    assert replace(result, beside_source=(2, 1)).beside_source == (2, 1)
    with pytest.raises(InputError, match="expected beside_source to count samples"):
        replace(result, beside_source=counts)


@pytest.mark.parametrize("severity", [0, 6])
def test_a_corruption_has_one_of_five_severities(severity: int) -> None:
    fog = AttackSpec(name="fog", epsilon=1, step_size=None, steps=None, severity=5)
    assert replace(fog, severity=1).severity == 1
    with pytest.raises(InputError, match="expected 1 to 5"):
        replace(fog, severity=severity)


@pytest.mark.parametrize(
    ("shape", "steps"), [((3, 32, 32), 8), ((3, 63, 200), 8), ((3, 64, 64), 4), ((3, 224, 224), 4)]
)
def test_small_images_have_the_budget_of_cifar_and_others_that_of_imagenet(
    shape: tuple[int, int, int], steps: int
) -> None:
    assert usual_epsilon(shape) == steps / 255


@pytest.mark.parametrize(("batch_size", "latency_ns"), [(0, (1,)), (1, ()), (1, (5, -1))])
def test_a_measurement_refuses_timings_that_no_run_writes(
    batch_size: int, latency_ns: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="measurement"):
        Measurement(batch_size=batch_size, warmup_runs=0, first_ns=1, latency_ns=latency_ns)


def test_a_report_refuses_classes_that_its_sets_do_not_have(
    make_report: Callable[..., Report],
) -> None:
    report = make_report("11", {"pgd": "10", "cw": "01"})
    answers = Answers(predicted="0 3", confidence="9 9")
    (first, *others) = report.sets
    assert replace(report, labels="3 -3", clean_answers=answers).labels == "3 -3"
    wrong: list[dict[str, Any]] = [
        {"labels": "0 4"},
        {"labels": "1 -2"},
        {"labels": "0 4000000000000000000"},
        {"clean_answers": Answers(predicted="4 0", confidence="9 9")},
        {"sets": (replace(first, answers=Answers(predicted="0 9", confidence="9 9")), *others)},
        {"sets": (replace(first, parent=ParentClasses(clean="0 1", stored="4 0")), *others)},
    ]
    for fields in wrong:
        with pytest.raises(InputError, match="expected labels and answers among 4 classes"):
            replace(report, **fields)
    more = replace(first, manifest=replace(first.manifest, classes=5))
    with pytest.raises(InputError, match="sets of as many classes each, came 4, 5"):
        replace(report, sets=(more, *others))


def test_a_class_without_a_name_on_the_card_is_called_by_its_number(
    make_report: Callable[..., Report],
) -> None:
    report = make_report("11", {"pgd": "10"})
    card = report.artifact.card
    assert card is not None
    few = replace(card, classes=2, class_names=("cat", "dog"))
    known = class_names(replace(report, artifact=replace(report.artifact, card=few)))
    assert known == {0: "cat", 1: "dog", 2: "2", 3: "3"}
