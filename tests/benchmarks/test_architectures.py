"""A small network of ours and of torchvision's from the first step to an artefact, and a table."""

from __future__ import annotations

import pytest

from benchmarks.architectures.walk import names, row, table


@pytest.mark.parametrize("name", ["resnet8", "squeezenet1_1"])
def test_a_small_network_trains_and_exports(name: str) -> None:
    found = row(name)
    assert found["trained"], found
    assert found["exported"], found
    assert found["agreement clean"] == found["agreement adversarial"] == 1
    assert max(found["difference clean"], found["difference adversarial"]) < 1e-4
    assert f"| {name} |" in table([found])


def test_every_name_is_walked_once() -> None:
    assert len(names()) == len(set(names())) > 90
