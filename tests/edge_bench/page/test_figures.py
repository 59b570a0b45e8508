"""The figures that a page and its CSV tell are those that were measured, under their own names."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Answers, AttackSpec, Report
from edge_bench.core.timings import Soak, SweepPoint
from edge_bench.page.facts import WORST, accuracies, all_facts
from edge_bench.page.parts import size
from edge_bench.page.render import as_csv, as_markdown, page_of
from edge_bench.statistics.metrics import answers_of
from edge_bench.telemetry.energy import energy_per_image

from .conftest import Written

MakeReport = Callable[..., Report]


@pytest.fixture
def corrupted(make_report: MakeReport) -> Report:
    """A report of a corruption alone, which is no attack."""
    report = make_report("1110111111", {"noise": "0010011111"})
    (result,) = report.sets
    fog = AttackSpec(name="fog", epsilon=1, step_size=None, steps=None, severity=3)
    manifest = replace(result.manifest, threat="corruption", attack=fog)
    sets = (replace(result, manifest=manifest, relation="another artefact"),)
    return replace(report, sets=sets, labels=encode_series([0, 1] * 5))


def test_without_an_attack_no_class_has_a_worst_case(corrupted: Report) -> None:
    text = as_markdown(page_of([corrupted], []))
    assert "least accurate class is 1: 80.0 % of its 5 images are right unattacked" in text
    assert "No attack was replayed, so no class has a worst case." in text
    assert "| Robust, worst case | not measured | no set is of an attack |" in text
    assert "flatters" not in text
    assert "It leaves out" not in text
    facts = {(fact.metric, fact.name): fact for fact in all_facts(corrupted)}
    assert not [key for key in facts if "worst" in " ".join(key)]
    mean = facts["accuracy under corruption", "mean"]
    assert (mean.value, mean.samples) == (0.6, 10)
    row = next(r for r in csv.DictReader(StringIO(as_csv([corrupted]))) if r["metric"] == "memory")
    assert row["value"] == str(corrupted.peak_memory_bytes)


def test_what_was_timed_besides_is_in_the_csv(make_report: MakeReport) -> None:
    report = make_report()
    eight = replace(report.latency, batch_size=8)
    report = replace(
        report,
        multi_stream=eight,
        offline=(replace(eight, batch_size=64),),
        sweep=(SweepPoint(threads=2, cores=(0, 2), timed=eight),),
        soak=Soak(minutes=1, latency_ns=encode_series([10**6] * 50 + [2 * 10**6] * 50)),
    )
    rows = {row["of"]: row for row in csv.DictReader(StringIO(as_csv([report])))}
    assert rows["multi-stream, p99, batch 8"]["unit"] == "ms"
    assert float(rows["offline, batch 64"]["value"]) == 64_000
    assert float(rows["sweep, 2 threads, cores 0+2, p50, batch 8"]["value"]) == 1
    assert float(rows["soak"]["value"]) == 1


def test_sets_may_have_the_names_of_figures(make_report: MakeReport) -> None:
    report = make_report("1111100000", {"clean": "1100000000", "worst case": "1010000000"})
    for text in (as_markdown(page_of([report], [])), as_markdown(page_of([report] * 2, []))):
        assert "stays right on 10.0 % of 10 images" in text
        assert "of 50.0 % unattacked" in text
    head = page_of([report], []).sections[0].headlines
    assert [h.value for h in head[:2]] == ["10.0 %", "50.0 %"]
    found = [(fact.name, fact.value) for fact in accuracies(report)]
    assert found == [("clean", 0.5), ("clean", 0.2), ("worst case", 0.2), ("worst case", 0.1)]


def test_errors_are_told_of_the_attack_that_breaks_most(make_report: MakeReport) -> None:
    def said(classes: list[int], percent: list[int]) -> Answers:
        return answers_of(np.array(classes), 100 * np.array(percent))

    report = make_report("11111", {"weak": "11110", "strong": "00011", "late": "11101"})
    told = {
        "weak": said([0, 0, 0, 0, 2], [99] * 5),
        "strong": said([1, 1, 2, 0, 0], [90, 50, 20, 99, 99]),
        "late": said([0, 0, 0, 1, 0], [99] * 5),
    }
    report = replace(
        report,
        labels=encode_series([0] * 5),
        clean_answers=said([0] * 5, [80] * 5),
        sets=tuple(replace(s, answers=told[s.name]) for s in report.sets),
    )
    (section,) = (s for s in page_of([report], []).sections if s.key == "changes")
    assert (
        "5 samples that are right unattacked are turned by an attack, 0 by every one;"
        in (section.paragraphs[0])
    )
    (figure,) = section.figures
    assert figure.title == "Confidence in errors under strong"
    assert figure.description == "Of 3 errors half have a confidence of 50 % or more"
    # Three times from 0 to 1, twice from 0 to 2.
    assert section.tables[-1].rows == (("0", "1", "3"), ("0", "2", "2"))


@pytest.mark.parametrize(
    ("count", "told"),
    [(1536, "2 KiB"), (10 * 2**20 - 1024, "10,239 KiB"), (3 * 10 * 2**19, "15.0 MiB")],
)
def test_a_size_is_in_units_of_1024(count: int, told: str) -> None:
    assert size(count) == told


def test_figures_as_csv_are_those_of_the_page(written: Written) -> None:
    rows = list(csv.DictReader(StringIO(as_csv([written.report]))))
    assert len(rows) == len(all_facts(written.report))
    worst = next(row for row in rows if row["of"] == WORST)
    fact = next(fact for fact in accuracies(written.report) if fact.name == WORST)
    assert float(worst["value"]) == pytest.approx(fact.value)
    assert float(worst["low_95"]) == pytest.approx(fact.low, rel=1e-5)
    (energy,) = (row for row in rows if row["metric"] == "energy" and row["of"] == "latency")
    known = energy_per_image(written.report.telemetry, "latency", written.report.latency)
    assert known is not None
    ends = known.per_image_mj - known.uncertainty_mj, known.per_image_mj + known.uncertainty_mj
    assert (float(energy["low_95"]), float(energy["high_95"])) == pytest.approx(ends, rel=1e-5)
    # No name of a class is a formula to a spreadsheet.
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
