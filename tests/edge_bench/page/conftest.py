"""Reports as bench writes them, with names that are markup, sensors, and all that a page tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree, which
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.core.series import Phase, Samples, Series, Telemetry, encode_series
from edge_bench.core.spec import Report
from edge_bench.files.report_file import read_report, write_report

Invoke = Callable[..., tuple[int, str, str]]

HOSTILE = (
    "<script>alert(1)</script>",
    '" onload="x" style="color:red',
    "=cmd|'/c calc'!A0 \x1b[2J‮",
    "$\\frac{a}| `b` 猫 & <img src=https://example.org/x>",
)


@dataclass(frozen=True, kw_only=True)
class Written:
    """A report on the disk, and the sets that it is of."""

    path: Path
    sets: Path
    report: Report


class Seen(HTMLParser):
    """Elements, attributes, names and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def sensors() -> Telemetry:
    """Eight seconds of a board that throttles at second 5, read every 100 ms."""
    count = 80
    times = [100_000 * index for index in range(count)]
    power = [
        2_000_000 + (3_000_000 if index > 20 else 0) + 1000 * (index % 7) for index in range(count)
    ]
    heat = [45_000 + 300 * index for index in range(count)]
    clock = [1_800_000 if index < 50 else 1_200_000 for index in range(count)]
    flags = [0 if index < 50 else 0b1010 for index in range(count)]
    named = {
        "power_uw": ("VDD_IN", power),
        "temperature_mc": ("soc <b>", heat),
        "clock_khz": ("cpu0", clock),
        "flags": ("throttled", flags),
    }
    return Telemetry(
        samples=(
            Samples(
                period_us=100_000,
                time_us=encode_series(times),
                series=tuple(
                    Series(quantity=quantity, name=name, values=encode_series(values))
                    for quantity, (name, values) in named.items()
                ),
            ),
        ),
        phases=(
            Phase(name="idle", begin_us=0, end_us=2_000_000),
            Phase(name="latency", begin_us=2_100_000, end_us=5_000_000),
            Phase(name="throughput", begin_us=5_100_000, end_us=7_800_000),
        ),
        total_rails=("VDD_IN",),
        total_is="the whole board",
    )


@pytest.fixture(scope="session")
def benched_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs `written` leaves it for the others, which copy it."""
    return tmp_path_factory.mktemp("page") / "benched"


@pytest.fixture
def written(
    invoke: Invoke,
    make_model: Callable[..., Path],
    make_set: Callable[..., Path],
    clean: NDArray[np.uint8],
    tmp_path: Path,
    benched_once: Path,
) -> Written:
    """What bench writes of a linear model and two sets, with a board's sensors put in."""
    path, sets = tmp_path / "report.json", tmp_path / "sets"
    if benched_once.exists():
        copytree(benched_once, tmp_path, dirs_exist_ok=True)
        return Written(path=path, sets=sets, report=read_report(path))
    model = make_model()
    make_set("pgd", manifest={"class_names": HOSTILE})
    weak = clean.copy()
    weak[::3] = 255 - weak[::3]
    near = np.clip(weak.astype(int), clean.astype(int) - 16, clean.astype(int) + 16)
    make_set("<i>weak", images=near.astype(np.uint8), manifest={"class_names": HOSTILE})
    quick = ("--seconds", "0.05", "--runs", "60", "--warmup", "1")
    code, _, stderr = invoke("bench", model, "--sets", sets, "--out", path, *quick)
    assert code == 0, stderr
    report = replace(read_report(path), telemetry=sensors())
    write_report(path, report, force=True)
    copytree(tmp_path, benched_once)
    return Written(path=path, sets=sets, report=read_report(path))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    found = which("chromium") or which("chromium-browser") or which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright here: pip install 'ardx[dev]'"
    )
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()
