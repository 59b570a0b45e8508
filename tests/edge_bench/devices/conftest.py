"""The files of boards, and a `vcgencmd` that answers as it is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ...boards import DRIVERS, write_board

PMIC = """\
     3V7_WL_SW_A current(0)=0.05855580A
       3V3_SYS_A current(1)=0.06148359A
      DDR_VDDQ_A current(4)=0.00000000A
      VDD_CORE_A current(7)=0.56259000A
     3V7_WL_SW_V volt(8)=3.61069200V
       3V3_SYS_V volt(9)=3.29982600V
      DDR_VDDQ_V volt(12)=0.60366240V
      VDD_CORE_V volt(15)=0.76798460V
         EXT5V_V volt(24)=5.07860000V
          BATT_V volt(25)=0.00341880V
"""


@pytest.fixture
def make_board(tmp_path: Path) -> Callable[[str], Path]:
    """The recorded tree of a board by name; its root."""

    def make(name: str) -> Path:
        root = tmp_path / name
        write_board(name, root)
        return root

    return make


@pytest.fixture
def rail_file(make_board: Callable[[str], Path]) -> Callable[[Path, str], Path]:
    """The file with the current of the rail of that name."""

    def find(root: Path, rail: str) -> Path:
        for label in root.glob(f"{DRIVERS}/ina3221/*/hwmon/hwmon*/in?_label"):
            if label.read_text(encoding="utf-8").strip() == rail:
                return label.with_name(f"curr{label.name[2]}_input")
        raise AssertionError(f"no rail {rail} in {root}")

    return find


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the search path besides the system's."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


@pytest.fixture
def make_program(programs: Path) -> Callable[[str, str], Path]:
    """Put a shell script of that name on the search path."""

    def make(name: str, script: str) -> Path:
        path = programs / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def vcgencmd(make_program: Callable[[str, str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A `vcgencmd` that answers from a file per question in the folder that this returns."""
    folder = tmp_path / "answers"
    folder.mkdir()

    def make(**answers: str) -> Path:
        for question, answer in ({"pmic_read_adc": PMIC} | answers).items():
            (folder / question).write_text(answer, encoding="utf-8")
        unknown = 'error=1 error_msg="Command not registered"'
        make_program("vcgencmd", f"cat {folder}/$1 2>/dev/null || echo '{unknown}'")
        return folder

    return make
