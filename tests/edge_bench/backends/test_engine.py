"""What can be held of TensorRT without a GPU: its names, the sentences without it, the progress."""

from __future__ import annotations

import ast
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edge_bench
from edge_bench.backends import open_backend
from edge_bench.backends.engine import PARTS, BuildProgress
from edge_bench.backends.gpu import probe_gpu
from edge_bench.backends.nvidia import reason, require_tensorrt
from edge_bench.core.errors import CapabilityError, InputError

MakeModel = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]

SOURCE = Path(edge_bench.__file__).parent
FILES = tuple(SOURCE / "backends" / f"{name}.py" for name in ("engine", "nvidia", "trt"))
NAMES = json.loads((Path(__file__).parents[2] / "data" / "tensorrt_names.json").read_text())
TENSORRT: dict[str, Any] = NAMES["tensorrt"]
POLYGRAPHY: dict[str, dict[str, list[str]]] = NAMES["polygraphy"]

HOLDERS = {
    "trt": "",
    "tensorrt": "",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "_context": "IExecutionContext",
}
"""Which of TensorRT's types our variables of these names hold."""

CALLED_BY_POLYGRAPHY = (
    "Builder.create_network",
    "Builder.create_builder_config",
    "Builder.create_optimization_profile",
    "Builder.build_serialized_network",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "OnnxParser.parse_from_file",
    "OnnxParser.num_errors",
    "OnnxParser.get_error",
    "IOptimizationProfile.set_shape",
    "IBuilderConfig.add_optimization_profile",
    "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.progress_monitor",
    "IBuilderConfig.profiling_verbosity",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.set_timing_cache",
    "IBuilderConfig.get_timing_cache",
    "IBuilderConfig.clear_flag",
    "BuilderFlag.TF32",
    "ITimingCache.serialize",
    "ITimingCache.combine",
)
"""What its loaders need for the options that we give them."""


def nodes(kind: type[ast.AST]) -> Iterator[Any]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield node


def holder(node: ast.expr) -> str | None:
    """The variable or attribute name that a value is read from: `x` of `x.y` and of `self.x.y`."""
    if isinstance(node, ast.Name):
        return node.id
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ):
        return node.attr
    return None


def uses() -> set[str]:
    """TensorRT names in our source as `Class.member`, or `.member` of the module."""
    found = set()
    for node in nodes(ast.Attribute):
        name = holder(node.value)
        if name in HOLDERS:
            found.add(f"{HOLDERS[name]}.{node.attr}")
        elif isinstance(node.value, ast.Attribute) and holder(node.value.value) == "trt":
            found.add(f"{node.value.attr}.{node.attr}")
    return {use for use in found if not use.rpartition(".")[2].startswith("_")}


# --- every name that is used exists -----------------------------------------------------------


def test_the_search_finds_the_names_that_matter() -> None:
    # Had a variable another name than in HOLDERS, its names would go unchecked.
    assert uses() >= {
        ".IProgressMonitor",
        ".Runtime",
        ".nptype",
        "MemoryPoolType.WORKSPACE",
        "ProfilingVerbosity.LAYER_NAMES_ONLY",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.create_execution_context",
        "ICudaEngine.get_tensor_dtype",
        "ICudaEngine.get_tensor_name",
        "ICudaEngine.num_io_tensors",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.get_tensor_shape",
        "IExecutionContext.set_input_shape",
        "IExecutionContext.set_tensor_address",
    }


def test_the_names_are_those_of_the_oldest_and_the_newest_version() -> None:
    assert {version.rpartition(".")[0] for version in TENSORRT} >= {"10.3", "11.4.0"}


@pytest.mark.parametrize("version", TENSORRT)
def test_every_tensorrt_name_that_we_use_exists(version: str) -> None:
    known = TENSORRT[version]["names"]
    for use in sorted(uses() | set(CALLED_BY_POLYGRAPHY)):
        kind, _, member = use.rpartition(".")
        assert member in known[kind], f"TensorRT {version} has no {use}"


@pytest.mark.parametrize("version", TENSORRT)
def test_every_tensorrt_method_is_called_with_as_many_arguments_as_it_takes(version: str) -> None:
    overloads = TENSORRT[version]["overloads"]
    checked = 0
    for call in nodes(ast.Call):
        if not isinstance(call.func, ast.Attribute) or holder(call.func.value) not in HOLDERS:
            continue
        name = f"{HOLDERS[holder(call.func.value) or '']}.{call.func.attr}"
        if name in overloads:
            assert not call.keywords
            counts = [len(parameters) for parameters in overloads[name]]
            optional = name == "ICudaEngine.create_execution_context"
            assert len(call.args) in counts or optional, name
            checked += 1
    assert checked >= 7


@pytest.mark.parametrize("version", TENSORRT)
def test_the_progress_monitor_has_the_methods_that_tensorrt_calls(version: str) -> None:
    wanted = TENSORRT[version]["overloads"]
    (monitor,) = (node for node in nodes(ast.ClassDef) if node.name == "Monitor")
    ours = {
        f"IProgressMonitor.{method.name}": [[a.arg for a in method.args.args if a.arg != "self"]]
        for method in monitor.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
    }
    assert ours == {name: wanted[name] for name in wanted if name.startswith("IProgressMonitor.")}


@pytest.mark.parametrize("version", POLYGRAPHY)
def test_every_polygraphy_name_and_keyword_that_we_use_exists(version: str) -> None:
    known = POLYGRAPHY[version]
    imported = {
        alias.name: f"{node.module}.{alias.name}"
        for node in nodes(ast.ImportFrom)
        if (node.module or "").startswith("polygraphy")
        for alias in node.names
    }
    assert {"CreateConfig", "NetworkFromOnnxPath", "wrapper", "G_LOGGER"} <= imported.keys()
    modules = {name.rpartition(".")[0] for name in known}
    for path in imported.values():
        assert path in known or path in modules, path
    for call in nodes(ast.Call):
        if isinstance(call.func, ast.Name) and call.func.id in imported:
            parameters = known[imported[call.func.id]]
            assert len(call.args) <= len(parameters), call.func.id
            assert {keyword.arg for keyword in call.keywords} <= set(parameters), call.func.id
    for node in nodes(ast.Attribute):
        name = holder(node.value)
        if name in imported:
            assert f"{imported[name]}.{node.attr}" in known, node.attr
        elif name in ("cuda", "_cuda"):
            assert f"polygraphy.cuda.wrapper().{node.attr}" in known, node.attr
    (add,) = (c for c in nodes(ast.Call) if getattr(c.func, "attr", None) == "add")
    added = {keyword.arg for keyword in add.keywords}
    assert added < set(known["polygraphy.backend.trt.Profile.add"])


# --- without TensorRT -------------------------------------------------------------------------


def test_without_tensorrt_the_sentence_says_where_it_comes_from(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(
        CapabilityError,
        match=r"--backend trt needs TensorRT's Python bindings .*--system-site-packages.*"
        "pip install tensorrt",
    ) as caught:
        open_backend("trt", make_model(), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["8.6.1", "10.0.1", "10.2.0.post1"])
def test_a_tensorrt_that_is_too_old_is_named(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("tensorrt")
    old.__dict__["__version__"] = version
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(CapabilityError, match=rf"needs TensorRT 10\.3 or newer, came {version}"):
        require_tensorrt()


def test_without_polygraphy_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    new = types.ModuleType("tensorrt")
    new.__dict__["__version__"] = "11.4.0.106"
    monkeypatch.setitem(sys.modules, "tensorrt", new)
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(CapabilityError, match=r"needs polygraphy .*pip install 'ardx\[tensorrt\]'"):
        require_tensorrt()


def test_without_a_driver_the_sentence_says_so() -> None:
    with pytest.raises(CapabilityError, match=r"needs an NVIDIA GPU and its driver \(libnone"):
        probe_gpu("libnone.so.1")


def test_bench_without_tensorrt_ends_with_code_3(
    invoke: Invoke, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    out = tmp_path / "report.json"
    code, _, text = invoke("bench", make_model(), "--backend", "trt", "--out", out)
    assert (code, text.count("\n")) == (3, 1)
    assert text.startswith("error: --backend trt needs TensorRT")
    assert not out.exists()


def test_threads_are_refused_for_a_gpu(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="--threads: TensorRT computes on the GPU"):
        open_backend("trt", make_model(), 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--workspace-mib", "512"), "--workspace-mib: belongs to TensorRT; give --backend trt"),
        (("--tuned-batch", "2"), "--tuned-batch: belongs to TensorRT"),
        (("--engine-cache", "engines"), "--engine-cache: belongs to TensorRT"),
        (("--backend", "trt", "--workspace-mib", "0"), "--workspace-mib 0: expected 1 or more"),
        (("--backend", "trt", "--tuned-batch", "65"), "--tuned-batch 65: expected 1 to 64"),
        (("--batch-size", "0"), "--batch-size 0: expected 1 or more"),
    ],
)
def test_options_of_engines_that_make_no_sense_end_with_code_2(
    invoke: Invoke, make_model: MakeModel, tmp_path: Path, options: Any, sentence: str
) -> None:
    code, _, text = invoke("bench", make_model(), "--out", tmp_path / "report.json", *options)
    assert code == 2
    assert text.startswith(f"error: {sentence}")


# --- what a build says ------------------------------------------------------------------------


def test_nested_phases_become_one_figure_that_never_falls() -> None:
    said: list[tuple[int, int, str]] = []
    progress = BuildProgress(lambda *told: said.append(told))
    progress.start("Building Engine", None, 2)
    progress.start("Tactics", "Building Engine", 4)
    for step in range(3):
        progress.step("Tactics", step)
    progress.start("Kernels", "Tactics", 2)
    progress.step("Kernels", 0)
    progress.finish("Kernels")
    progress.finish("Tactics")  # One step early, as TensorRT may.
    progress.step("Building Engine", 0)
    progress.step("Building Engine", 1)
    progress.finish("Building Engine")
    assert said[0] == (0, PARTS, "TensorRT: Building Engine")
    assert [done for done, _, _ in said] == [0, 125, 250, 375, 437, 500, 1000]


def test_phases_in_an_odd_order_do_not_end_a_build() -> None:
    said: list[int] = []
    progress = BuildProgress(lambda done, total, text: said.append(done))
    progress.step("never begun", 0)
    progress.start("inner", "inner", 2)
    progress.start("outer", "never begun", 0)
    progress.step("outer", 0)
    progress.start("within", "outer", 1)
    progress.finish("outer")
    progress.finish("inner")
    progress.step("within", 0)
    progress.finish("never begun")
    assert said == sorted(said)


def test_a_second_build_begins_at_the_start() -> None:
    said: list[int] = []
    progress = BuildProgress(lambda done, total, text: said.append(done))
    for _ in range(2):
        progress.start("Building Engine", None, 1)
        progress.step("Building Engine", 0)
        progress.finish("Building Engine")
    assert said == [0, PARTS, 0, PARTS]


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        (["[E] In node 3: no kernel\n    more", "[!] Could not parse"], "In node 3: no kernel"),
        ([], "Invalid Engine"),
    ],
)
def test_the_reason_is_the_first_thing_that_went_wrong(errors: list[str], sentence: str) -> None:
    assert reason(errors, RuntimeError("Invalid Engine.\nSee above")) == sentence
