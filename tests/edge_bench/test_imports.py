"""The device's package needs neither torch nor onnx nor the training side."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GUARD = """
import importlib, pkgutil, sys

BLOCKED = ("torch", "onnx", "onnxruntime", "scipy", "ard", "deploy")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-c", GUARD + script], capture_output=True, text=True, check=False
    )


def test_every_module_imports_without_torch_onnx_or_a_runtime() -> None:
    ended = run(
        "import edge_bench, edge_bench.cli\n"
        "found = [m.name for m in pkgutil.walk_packages(edge_bench.__path__, 'edge_bench.')]\n"
        "for name in found: importlib.import_module(name)\n"
        "assert not set(BLOCKED) & set(sys.modules), set(BLOCKED) & set(sys.modules)\n"
        "print(*found)\n"
    )
    assert ended.returncode == 0, ended.stderr
    # The walk reached the packages inside the package, too.
    expected = {"edge_bench.cli", "edge_bench.backends.ort", "edge_bench.devices.jetson"}
    assert expected <= set(ended.stdout.split())


def test_a_gate_s_help_needs_no_numpy() -> None:
    # A device without its packages should still say what is missing, and fast.
    ended = run("BLOCKED += ('numpy',)\nfrom edge_bench.cli import app\napp(['gate', '--help'])\n")
    assert ended.returncode == 0, ended.stderr
    assert "--min-robust-accuracy" in ended.stdout


@pytest.mark.parametrize("module", ["edge_bench.cli", "deploy.quantization.calibration", "ard.cli"])
def test_onnxruntime_is_told_to_report_to_nobody_before_it_is_imported(module: str) -> None:
    script = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime': print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"import {module}\n"
        "import onnxruntime\n"
    )
    quiet = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    for given, expected in ((quiet, "1"), (quiet | {"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        ended = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=given
        )
        assert ended.stdout.split()[0] == expected
