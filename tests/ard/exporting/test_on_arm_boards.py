"""Artefacts and a set replayed on a Raspberry Pi's runtime: what it does is what this machine does.

The boards are emulated, see tests/emulated.py: every figure but latency is that of a real one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ard.attacks.registry import parse_attack
from ard.attacks.victims import weights_victim
from ard.crafting.craft import craft_set
from ard.data.sources import SplitSource
from ard.data.splits import Dataset, take_limit
from ard.exporting.export import export
from edge_bench.backends.ort import OrtBackend
from edge_bench.core.spec import Report
from edge_bench.files.fingerprint import differs
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import logits_of
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.metrics import decode_mask

from ...emulated import Benched, EmulatedBoard, bench_on
from ..conftest import EPSILON, SmallModels

BOARDS = {
    "pi-4": ("Raspberry Pi 4 Model B Rev 1.5", "Cortex-A72", "brcm,bcm2711"),
    "pi-5": ("Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76", "brcm,bcm2712"),
}
HERE = BenchOptions(device="local", threads=1, min_runs=1, min_seconds=0, settle_seconds=0)
TIE = 1e-3
"""Logits of fp32 that lie closer may change places where sums are taken in another order."""


@pytest.fixture(scope="module")
def replayed(
    small_models: SmallModels, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> AdversarialSet:
    """A hundred test images and PGD's, crafted on the student's weights."""
    victim = weights_victim(small_models.student.weights)
    images = SplitSource(take_limit(digits.test, 100), victim.card.dataset, victim.card.classes)
    out = tmp_path_factory.mktemp("sets") / "pgd5"
    craft_set(victim, images, parse_attack("pgd5", epsilon=EPSILON), out)
    return open_set(out)


@pytest.fixture(scope="module", params=["fp32", "x86", "arm"])
def artefact(
    request: pytest.FixtureRequest,
    small_models: SmallModels,
    digits: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The student as fp32, and as INT8 for either architecture."""
    out = tmp_path_factory.mktemp("artefact") / f"{request.param}.onnx"
    target = None if request.param == "fp32" else request.param
    export(small_models.student.weights, digits, out, int8_target=target)
    return out


@pytest.fixture(scope="module")
def benched(
    emulated_boards: dict[str, EmulatedBoard],
    artefact: Path,
    replayed: AdversarialSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Benched]:
    # Each start takes seconds, and a file for x86 is on a board by mistake.
    names = ["pi-4"] if artefact.stem == "x86" else list(emulated_boards)
    boards = {name: emulated_boards[name] for name in names}
    out = tmp_path_factory.mktemp("benched") / "out"
    return bench_on(boards, out, artefact, "--sets", replayed.path)


def masks(report: Report) -> NDArray[np.bool_]:
    """(2, N): the clean images', and the set's."""
    assert report.clean_mask is not None
    return np.stack([decode_mask(mask) for mask in (report.clean_mask, report.sets[0].mask)])


def test_boards_replay_sample_by_sample_as_this_machine_does(
    benched: dict[str, Benched], artefact: Path, replayed: AdversarialSet
) -> None:
    here = masks(run_bench(artefact, [replayed], HERE))
    assert here.any(axis=1).all()
    assert not here.all(axis=1).any()
    compared = np.ones_like(here)
    if artefact.stem == "fp32":
        with OrtBackend(artefact) as backend:
            for row, images in zip(compared, (replayed.clean, replayed.images), strict=True):
                ranked = np.sort(logits_of(backend, images, 10, HERE, "a test image"), axis=1)
                row[:] = ranked[:, -1] - ranked[:, -2] > TIE
    assert compared.mean() > 0.98
    for name, ran in benched.items():
        assert np.array_equal(masks(ran.report)[compared], here[compared]), name


def test_boards_answer_the_fingerprint_as_the_machine_of_the_export_did(
    benched: dict[str, Benched], artefact: Path
) -> None:
    """INT8 to the bit, also a file for x86: unsigned activations are the same graph on both."""
    for ran in benched.values():
        found = ran.report.fingerprint
        assert found is not None
        assert not differs(found)
        if artefact.stem != "fp32":
            assert found.largest_difference == 0.0
        assert "something else" not in ran.warnings


def test_boards_are_found_to_be_what_they_are(benched: dict[str, Benched]) -> None:
    for name, ran in benched.items():
        device = ran.report.device
        assert (device.board, device.cpu, device.soc) == BOARDS[name]
        assert (device.device, device.architecture, device.cores) == ("rpi", "aarch64", 4)
        assert device.governor == "ondemand"
        assert list(ran.summary["temperature_max_c"]) == ["cpu-thermal"]
