"""Tiny linear classifiers as ONNX files, adversarial sets on disk and reports, all made by hand.

A linear model is one whose masks numpy can compute itself, so nothing here is taken on trust from
the code under test. Factories are fixtures, since test modules cannot import one another.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from edge_bench.cli import app
from edge_bench.core.spec import (
    Artifact,
    AttackSpec,
    BackendInfo,
    DeviceProfile,
    ModelCard,
    Report,
    SetManifest,
    SetResult,
)
from edge_bench.core.timings import Measurement
from edge_bench.files.seals.content import sealed
from edge_bench.files.sets import ARRAYS, MANIFEST, AdversarialSet, open_set
from edge_bench.files.store import sha256_file, write_json
from edge_bench.options.bench import BenchOptions

SAMPLES = 30
SHAPE = (3, 8, 8)
CLASSES = 4
DATASET = "toy"
OPSET, IR_VERSION = 18, 9

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}


@pytest.fixture(scope="session")
def weight() -> NDArray[np.float32]:
    """(C, channels * height * width) weights of the linear classifier."""
    rng = np.random.default_rng(1)
    drawn: NDArray[np.float32] = rng.normal(size=(CLASSES, int(np.prod(SHAPE)))).astype(np.float32)
    return drawn


@pytest.fixture(scope="session")
def clean() -> NDArray[np.uint8]:
    """(N, C, H, W) images."""
    return np.random.default_rng(2).integers(0, 256, (SAMPLES, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="session")
def labels(weight: NDArray[np.float32], clean: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N,) labels: the linear classifier's own answer, but for every fifth sample another."""
    answers = _logits(weight, clean).argmax(axis=1)
    wrong = np.arange(SAMPLES) % 5 == 0
    drawn: NDArray[np.int64] = np.where(wrong, (answers + 1) % CLASSES, answers).astype(np.int64)
    return drawn


@pytest.fixture(scope="session")
def attacked(
    weight: NDArray[np.float32], clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """(N, C, H, W) images that a signed gradient step moved away from their labels."""
    others = _logits(weight, clean) - 1e9 * np.eye(CLASSES)[labels]
    direction = weight[others.argmax(axis=1)] - weight[labels]
    steps = (16 * np.sign(direction)).reshape(clean.shape)
    moved: NDArray[np.uint8] = np.clip(clean + steps, 0, 255).astype(np.uint8)
    return moved


@pytest.fixture(scope="session")
def expected_mask(
    weight: NDArray[np.float32], labels: NDArray[np.int64]
) -> Callable[[NDArray[Any]], str]:
    """What numpy says: '1' where the linear classifier is right on images in [0, 255]."""

    def compute(images: NDArray[Any]) -> str:
        logits = _logits(weight, images)
        ranked = np.sort(logits, axis=1)
        assert (ranked[:, -1] - ranked[:, -2]).min() > 1e-3, "a tie would test rounding"
        return "".join("1" if right else "0" for right in logits.argmax(axis=1) == labels)

    return compute


@pytest.fixture
def make_model(tmp_path: Path, weight: NDArray[np.float32]) -> Callable[..., Path]:
    """Write the linear classifier of `weight` as ONNX, with an input as asked, to tmp_path."""

    def make(name: str = "model.onnx", **how: Any) -> Path:
        path = tmp_path / name
        onnx.save(_linear_graph(how.pop("weight", weight), **how), path)
        return path

    return make


@pytest.fixture
def make_card() -> Callable[..., ModelCard]:
    """A card that fits the linear classifier, with fields replaced as asked."""

    def make(**fields: Any) -> ModelCard:
        plain: dict[str, Any] = {
            "architecture": "linear",
            "dataset": DATASET,
            "classes": CLASSES,
            "input_shape": SHAPE,
        }
        return ModelCard(**(plain | fields))

    return make


@pytest.fixture
def make_set(
    tmp_path: Path,
    clean: NDArray[np.uint8],
    labels: NDArray[np.int64],
    attacked: NDArray[np.uint8],
) -> Callable[..., Path]:
    """Write a set to tmp_path/sets/<name>; arrays by keyword, manifest fields by `manifest`."""

    def make(
        name: str = "pgd",
        *,
        manifest: dict[str, Any] | None = None,
        **arrays: NDArray[Any],
    ) -> Path:
        folder = tmp_path / "sets" / name
        folder.mkdir(parents=True)
        plain: dict[str, NDArray[Any]] = {"images": attacked, "clean": clean, "labels": labels}
        plain |= arrays
        plain.setdefault("source_success", np.ones(len(plain["labels"]), dtype=np.bool_))
        for key, array in plain.items():
            np.save(folder / f"{key}.npy", array)
        fields: dict[str, Any] = {
            "samples": len(plain["labels"]),
            "image_shape": plain["clean"].shape[1:],
            "classes": CLASSES,
            "dataset": DATASET,
            "attack": AttackSpec(name="pgd", epsilon=16 / 255, step_size=2 / 255, steps=20),
            "source_sha256": "0" * 64,
            "source_name": "teacher.safetensors",
            "on_grid": plain["images"].dtype == np.uint8,
            "arrays": {f"{array}.npy": sha256_file(folder / f"{array}.npy") for array in plain},
            "versions": {"numpy": np.__version__},
        }
        write_json(folder / MANIFEST, SetManifest(**(fields | (manifest or {}))), False)
        return folder

    return make


@pytest.fixture
def vouch() -> Callable[[Path], None]:
    """Write the present hashes of a set's arrays into its manifest, as a forger would."""

    def update(folder: Path) -> None:
        path = folder / MANIFEST
        data = json.loads(path.read_text(encoding="utf-8"))
        data["arrays"] = {name: sha256_file(folder / name) for name in ARRAYS}
        path.write_text(json.dumps(sealed(SetManifest, data)), encoding="utf-8")

    return update


@pytest.fixture
def opened(make_set: Callable[..., Path]) -> AdversarialSet:
    """The plain set, opened."""
    return open_set(make_set())


@pytest.fixture
def quick() -> Callable[..., BenchOptions]:
    """Benchmark options that time a handful of calls."""

    def make(**options: Any) -> BenchOptions:
        plain: dict[str, Any] = {"min_runs": 3, "min_seconds": 0.0, "warmup_runs": 1}
        plain |= {"settle_seconds": 0.0, "threads": 1}
        return BenchOptions(**(plain | options))

    return make


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """A report from masks and latencies, without a measurement."""

    def make(
        clean_mask: str | None = None,
        sets: dict[str, str] | None = None,
        *,
        latency_ms: Sequence[float] = (1.0,) * 200,
        size_bytes: int = 1000,
        images_sha256: str | None = None,
        epsilon: float = 8 / 255,
        precision: str = "fp32",
        classes: int = CLASSES,
    ) -> Report:
        results = tuple(
            _set_result(name, mask, epsilon, classes) for name, mask in (sets or {}).items()
        )
        card = ModelCard(
            architecture="linear",
            dataset=DATASET,
            classes=classes,
            input_shape=SHAPE,
            precision=precision,
        )
        timing = Measurement(
            batch_size=1,
            warmup_runs=0,
            first_ns=7_000_000,
            latency_ns=tuple(round(1e6 * ms) for ms in latency_ms),
        )
        return Report(
            created="2025-01-01T00:00:00+00:00",
            ardx_version="0.1.0",
            artifact=Artifact(
                path="student.onnx", sha256="a" * 64, size_bytes=size_bytes, card=card
            ),
            device=DeviceProfile(
                device="local",
                board=None,
                cpu="some CPU",
                architecture="x86_64",
                cores=2,
                memory_bytes=None,
                os="Linux",
                python="3.11.0",
                governor=None,
            ),
            backend=BackendInfo(
                name="ort", version="1.20.0", providers=("CPUExecutionProvider",), threads=None
            ),
            images_sha256=images_sha256 or ("c" * 64 if clean_mask else None),
            clean_mask=clean_mask,
            sets=results,
            latency=timing,
            throughput=timing,
            peak_memory_bytes=2**20,
        )

    return make


@pytest.fixture
def room_for() -> Iterator[Callable[[int], None]]:
    """Set how many bytes a file may have, as on a full disk, until the test ends."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def invoke() -> Callable[..., tuple[int, str, str]]:
    """Run a command line of edge_bench in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def _logits(weight: NDArray[np.float32], images: NDArray[Any]) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1).astype(np.float64) / 255
    logits: NDArray[np.float64] = flat @ weight.T.astype(np.float64)
    return logits


def _set_result(name: str, mask: str, epsilon: float, classes: int) -> SetResult:
    manifest = SetManifest(
        samples=len(mask),
        image_shape=SHAPE,
        classes=classes,
        dataset=DATASET,
        attack=AttackSpec(name=name, epsilon=epsilon, step_size=None, steps=None),
        source_sha256="b" * 64,
        source_name="teacher.safetensors",
        on_grid=True,
        arrays={},
        versions={},
    )
    return SetResult(name=name, manifest=manifest, relation="another model", mask=mask)


def _linear_graph(
    weight: NDArray[np.float32],
    *,
    shape: tuple[int | str, ...] = SHAPE,
    batch: int | str = "batch",
    dtype: str = "float32",
    channels_last: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: int | str = CLASSES,
    inputs: int = 1,
    reshape_to: Sequence[int] | None = None,
    output: str = "logits",
    card: ModelCard | None = None,
    card_text: str | None = None,
) -> onnx.ModelProto:
    """Cast -> scale -> (NHWC to NCHW) -> (normalise) -> flatten -> weights, checked by onnx."""
    constants: dict[str, NDArray[Any]] = {"weight": np.ascontiguousarray(weight.T)}
    nodes = [helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT)]
    if dtype == "uint8":
        constants["levels"] = np.array(255, dtype=np.float32)
        nodes.append(helper.make_node("Div", ["cast", "levels"], ["scaled"]))
    if channels_last:
        nodes.append(_then(nodes, "Transpose", "planes", perm=[0, 3, 1, 2]))
        shape = (*shape[1:], shape[0])
    if mean is not None and std is not None:
        constants["mean"] = np.array(mean, dtype=np.float32).reshape(1, -1, 1, 1)
        constants["std"] = np.array(std, dtype=np.float32).reshape(1, -1, 1, 1)
        nodes.append(_then(nodes, "Sub", "centred", "mean"))
        nodes.append(_then(nodes, "Div", "normal", "std"))
    if reshape_to is not None:
        constants["shape"] = np.array(reshape_to, dtype=np.int64)
        nodes.append(_then(nodes, "Reshape", "flat", "shape"))
    else:
        nodes.append(_then(nodes, "Flatten", "flat"))
    nodes.append(_then(nodes, "MatMul", "logits" if classes == CLASSES else "all", "weight"))
    if classes != CLASSES:
        # How many columns a Compress keeps is not known before it runs.
        constants["kept"] = np.ones(weight.shape[0], dtype=np.bool_)
        nodes.append(_then(nodes, "Compress", "logits", "kept", axis=1))
    declared = [
        helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], [batch, *shape])
        for name in ["images", *(f"more{i}" for i in range(1, inputs))]
    ]
    if inputs > 1:
        nodes.append(helper.make_node("Identity", ["more1"], ["unused"]))
    outputs = {
        "logits": helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes]),
        "cast": helper.make_tensor_value_info("cast", TensorProto.FLOAT, [batch, *shape]),
    }
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "linear", declared, [outputs[output]], initializers)
    return _checked(graph, json.dumps(asdict(card)) if card is not None else card_text)


def _checked(graph: onnx.GraphProto, card_text: str | None) -> onnx.ModelProto:
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    if card_text is not None:
        helper.set_model_props(model, {"ardx_card": card_text})
    onnx.checker.check_model(model)
    return model


def _then(
    nodes: list[onnx.NodeProto], operator: str, result: str, *operands: str, **attributes: Any
) -> onnx.NodeProto:
    """A node that takes the last node's result and further operands."""
    return helper.make_node(operator, [nodes[-1].output[0], *operands], [result], **attributes)
