"""Artefacts and a set replayed on a Raspberry Pi's runtime: what it does is what this machine does.

The boards are emulated, see tests/emulated.py: every figure but latency is that of a real one.
"""

from __future__ import annotations

import platform
import re
from dataclasses import replace
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
from deploy.quantization.targets import TARGETS
from edge_bench.backends.ort import OrtBackend
from edge_bench.core.spec import Report
from edge_bench.files.fingerprint import (
    SAMPLES,
    compare,
    differs,
    fingerprint_path,
    read_fingerprint,
)
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.files.store import sha256_file
from edge_bench.options.bench import BenchOptions
from edge_bench.robustness.inference import logits_of
from edge_bench.runs.one_run import run as run_bench
from edge_bench.statistics.metrics import decode_mask

from ...deploy.sines import exported, network, session
from ...emulated import Benched, EmulatedBoard, bench_on
from ..conftest import EPSILON, SmallModels

BOARDS = {
    "pi-4": ("Raspberry Pi 4 Model B Rev 1.5", "Cortex-A72", "brcm,bcm2711"),
    "pi-5": ("Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76", "brcm,bcm2712"),
}
KINDS = ("fp32", "x86", "arm")  # A file for x86 is on a board by mistake.
HERE = BenchOptions(device="local", threads=1, min_runs=1, min_seconds=0, settle_seconds=0)
TIE = 1e-3
"""Logits of fp32 that lie closer may change places where sums are taken in another order."""


@pytest.fixture(scope="module")
def replayed(
    small_models: SmallModels, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> AdversarialSet:
    """Sixty test images and PGD's, crafted on the student's weights."""
    victim = weights_victim(small_models.student.weights)
    images = SplitSource(take_limit(digits.test, 60), victim.card.dataset, victim.card.classes)
    out = tmp_path_factory.mktemp("sets") / "pgd5"
    craft_set(victim, images, parse_attack("pgd5", epsilon=EPSILON), out)
    return open_set(out)


@pytest.fixture(scope="module")
def artefacts(
    small_models: SmallModels, digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The student as fp32, and as INT8 for either architecture."""
    folder = tmp_path_factory.mktemp("artefacts")
    found = {name: folder / f"{name}.onnx" for name in KINDS}
    for name, out in found.items():
        target = None if name == "fp32" else name
        export(small_models.student.weights, digits, out, int8_target=target)
    return found


@pytest.fixture(scope="module")
def sines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network for Arm, also as if no session option were on its card.

    Sines of another library end otherwise in their last bit. In a network of few values none is so
    near to a tie that it becomes another integer; of this seed some are near enough for other ways.
    """
    model, images = network(8, 6, seed=13)
    found = {"said": exported(model, tmp_path_factory.mktemp("said"), "arm", images)}
    without = replace(TARGETS["arm"], session_options={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TARGETS, "arm", without)
        found["unsaid"] = exported(model, tmp_path_factory.mktemp("unsaid"), "arm", images)
    return found


@pytest.fixture(scope="module")
def benched(
    emulated_boards: dict[str, EmulatedBoard],
    artefacts: dict[str, Path],
    sines: dict[str, Path],
    replayed: AdversarialSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, dict[str, Benched]]:
    """By its name each artefact on each board."""
    asked: dict[str, tuple[object, ...]] = {name: (path,) for name, path in sines.items()}
    asked |= {name: (path, "--sets", replayed.path) for name, path in artefacts.items()}
    out = tmp_path_factory.mktemp("benched") / "out"
    found = bench_on(emulated_boards, list(asked.values()), out)
    return {
        name: {board: ran[index] for board, ran in found.items()}
        for index, name in enumerate(asked)
    }


def masks(report: Report) -> NDArray[np.bool_]:
    """(2, N): the clean images', and the set's."""
    assert report.clean_mask is not None
    return np.stack([decode_mask(mask) for mask in (report.clean_mask, report.sets[0].mask)])


@pytest.mark.parametrize("kind", KINDS)
def test_boards_replay_sample_by_sample_as_this_machine_does(
    kind: str,
    benched: dict[str, dict[str, Benched]],
    artefacts: dict[str, Path],
    replayed: AdversarialSet,
) -> None:
    here = masks(run_bench(artefacts[kind], [replayed], HERE))
    assert here.any(axis=1).all()
    assert not here.all(axis=1).any()
    compared = np.ones_like(here)
    if kind == "fp32":
        with OrtBackend(artefacts[kind]) as backend:
            for row, images in zip(compared, (replayed.clean, replayed.images), strict=True):
                ranked = np.sort(logits_of(backend, images, 10, HERE, "a test image"), axis=1)
                row[:] = ranked[:, -1] - ranked[:, -2] > TIE
    assert compared.mean() > 0.98
    assert benched[kind].keys() == BOARDS.keys()
    for board, ran in benched[kind].items():
        assert np.array_equal(masks(ran.report)[compared], here[compared]), board


@pytest.mark.parametrize("kind", KINDS)
def test_boards_answer_the_fingerprint_as_the_machine_of_the_export_did(
    kind: str, benched: dict[str, dict[str, Benched]]
) -> None:
    """INT8 to the bit, also a file for x86: unsigned activations are the same graph on both."""
    for ran in benched[kind].values():
        found = ran.report.fingerprint
        assert found is not None
        assert not differs(found)
        if kind != "fp32":
            assert found.largest_difference == 0.0
        assert "something else" not in ran.warnings


def test_boards_are_found_to_be_what_they_are(benched: dict[str, dict[str, Benched]]) -> None:
    for board, ran in benched["fp32"].items():
        device = ran.report.device
        assert (device.board, device.cpu, device.soc) == BOARDS[board]
        assert (device.device, device.architecture, device.cores) == ("rpi", "aarch64", 4)
        assert device.governor == "ondemand"
        assert list(ran.summary["temperature_max_c"]) == ["cpu-thermal"]


def test_boards_answer_to_the_bit_as_this_machine_under_the_option_of_the_card(
    benched: dict[str, dict[str, Benched]],
) -> None:
    for ran in benched["said"].values():
        found = ran.report.fingerprint
        assert found is not None
        assert (found.largest_difference, found.same_class) == (0.0, SAMPLES)
        assert "something else" not in ran.warnings


def test_boards_that_run_other_integers_than_were_validated_are_told(
    benched: dict[str, dict[str, Benched]], sines: dict[str, Path]
) -> None:
    """By default ONNX Runtime keeps an S8S8 file's integers on Arm, and not all of them here."""
    if platform.machine() != "x86_64":
        pytest.skip("the defaults of this machine are those of the boards")
    path = sines["unsaid"]
    marks = read_fingerprint(fingerprint_path(path), sha256_file(path))
    here = compare(marks, session(path, qdqisint8allowed="1"), "int8")
    for ran in benched["unsaid"].values():
        found = ran.report.fingerprint
        assert found is not None
        assert differs(found)
        assert ran.summary["fingerprint"]["differs"] is True
        (warning,) = [line for line in ran.warnings.splitlines() if "something else" in line]
        assert re.search(r"validated with ort .*x86_64.*, here ort .*aarch64, Cortex-A7", warning)
        # All of the difference is the option's: under Arm's default it is the very same here.
        assert found.largest_difference == here.largest_difference
        assert found.same_class == here.same_class
