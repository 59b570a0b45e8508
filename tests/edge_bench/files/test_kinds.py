"""What kind of file a path is, whatever system wrote its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_bench.files.kinds import Kind, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("student.onnx", Kind.ONNX),
        ("STUDENT.ONNX", Kind.ONNX),
        ("a.b.Onnx", Kind.ONNX),
        ("student.engine", Kind.ENGINE),
        ("STUDENT.ARDX", Kind.BUNDLE),
        ("student.SafeTensors", Kind.WEIGHTS),
        ("student.pt", None),
        ("onnx", None),
        (".onnx", None),
    ],
)
def test_the_suffix_tells_in_either_case(name: str, kind: Kind | None) -> None:
    assert kind_of(Path(name)) is kind
