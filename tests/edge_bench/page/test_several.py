"""Several reports on one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_bench.core.spec import Report
from edge_bench.page.render import as_html, page_of

MakeReport = Callable[..., Report]


def test_several_reports_are_told_apart_and_put_side_by_side(make_report: MakeReport) -> None:
    small = make_report("1110", {"pgd": "1100"}, latency_ms=[1.0] * 50, precision="int8")
    large = make_report("1111", {"cw": "1110"}, latency_ms=[2.0] * 50)
    page = page_of([small, large, small], [])
    assert [section.key for section in page.sections] == ["comparison", "each"]
    comparison = page.sections[0]
    text = " ".join(comparison.paragraphs)
    assert "none in common" in text
    names = [row[0] for row in comparison.tables[0].rows]
    assert len(set(names)) == 3
    assert comparison.figures[0].table.rows[1][3] == "75.0 %"
    assert as_html(page).count("<svg") == 1


def test_attacks_of_one_name_and_another_budget_are_not_told_as_one(
    make_report: MakeReport,
) -> None:
    near, far = (make_report("1111", {"pgd": mask}) for mask in ("1110", "1000"))
    (result,) = far.sets
    attack = replace(result.manifest.attack, epsilon=2 / 255)
    far = replace(far, sets=(replace(result, manifest=replace(result.manifest, attack=attack)),))
    comparison = page_of([near, far], []).sections[0]
    assert "with none in common" in " ".join(comparison.paragraphs)
    rows = {row[0]: row[1:] for row in comparison.tables[1].rows}
    of = [name for name in rows if name.startswith("pgd, ")]
    assert [rows[name] for name in of] == [("75.0 %", "-"), ("-", "25.0 %")]
    alike = page_of([near, make_report("1110", {"pgd": "1110", "cw": "1100"})], []).sections[0]
    assert "with only pgd in common" in " ".join(alike.paragraphs)
    assert [row[0] for row in alike.tables[1].rows] == ["clean", "pgd", "cw", "worst case"]


def test_the_fastest_is_told_of_one_batch_size(make_report: MakeReport) -> None:
    one, other, wide = (
        make_report("1110", {"pgd": "1100"}, latency_ms=[ms] * 200) for ms in (2.0, 3.0, 10.0)
    )
    wide = replace(wide, latency=replace(wide.latency, batch_size=32))
    comparison = page_of([one, other, wide], []).sections[0]
    names = [row[0] for row in comparison.tables[0].rows]
    assert (
        f"of batch 1 {names[0]} is fastest, with a median of 2 ms a call; of batch 32 {names[2]} "
        "alone was timed, with a median of 10 ms a call."
    ) in comparison.paragraphs[0]
    assert [row[6] for row in comparison.tables[0].rows] == [
        "2 ms, batch 1",
        "3 ms, batch 1",
        "10 ms, batch 32",
    ]
    assert comparison.figures[0].table.rows[2][1] == "10 ms, batch 32"
    alike = page_of([one, other], []).sections[0]
    assert f"{names[0]} is fastest, with a median of 2 ms a call." in alike.paragraphs[0]


def test_reports_that_are_alike_are_equally_robust(make_report: MakeReport) -> None:
    one, other = (
        make_report("1110", {"pgd": "1100"}, latency_ms=[ms] * 200, precision=precision)
        for ms, precision in ((2.0, "fp32"), (3.0, "int8"))
    )
    lower = make_report("1110", {"pgd": "1000"}, latency_ms=[4.0] * 200)
    comparison = page_of([one, lower, other], []).sections[0]
    first, second, third = (row[0] for row in comparison.tables[0].rows)
    assert (
        f"{first} and {third} are equally robust, with 50.0 % in the worst case; their intervals "
        f"overlap that of {second}. "
    ) in comparison.paragraphs[0]
    told = page_of([one, lower], []).sections[0].paragraphs[0]
    assert " is most robust, with 50.0 % in the worst case; its interval overlaps that of" in told


def test_long_names_that_end_otherwise_are_told_apart_below_the_drawing(
    make_report: MakeReport,
) -> None:
    report = make_report("1110", {"pgd": "1100"}, latency_ms=[2.0] * 200)
    boards = [
        replace(report, artifact=replace(report.artifact, path=f"{'student-' * 7}{board}.onnx"))
        for board in ("pi-4", "pi-5")
    ]
    (figure,) = page_of(boards, []).sections[0].figures
    assert "pi-4.onnx</text>" in figure.svg
    assert "pi-5.onnx</text>" in figure.svg
