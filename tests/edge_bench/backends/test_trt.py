"""Real engines: built, kept, loaded, run, and held against ONNX Runtime.

These run where TensorRT, Polygraphy and an NVIDIA GPU are, and are skipped with the reason
elsewhere: `pytest -m tensorrt` on a board says which.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_bench.backends import open_backend
from edge_bench.backends.base import Backend
from edge_bench.backends.engine import tensorrt_here
from edge_bench.backends.engine_cache import record_path
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.spec import ModelCard, Report
from edge_bench.files.store import read_json, sha256_file
from edge_bench.options.bench import BenchOptions
from edge_bench.options.engine import EngineOptions
from edge_bench.robustness.inference import prepare

MakeModel = Callable[..., Path]

pytestmark = [
    pytest.mark.tensorrt,
    # Polygraphy closes what TensorRT closes by itself by now.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def machine() -> str:
    """The TensorRT and the GPU that the tests run on."""
    try:
        return tensorrt_here()
    except CapabilityError as error:
        pytest.skip(str(error))


@pytest.fixture
def options(tmp_path: Path) -> EngineOptions:
    return EngineOptions(cache=tmp_path / "engines", max_batch=16, workspace_mib=256)


def open_trt(path: Path, options: EngineOptions, **how: Any) -> Backend:
    return open_backend("trt", path, None, options, **how)


def logits(backend: Backend, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return backend.infer(prepare(images, backend.input, BenchOptions()))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"batch": 4},
        {"channels_last": True},
        {"dtype": "float16"},
        {"dtype": "uint8", "channels_last": True},
        {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)},
    ],
)
def test_an_engine_gives_the_logits_of_onnx_runtime(
    make_model: MakeModel, clean: NDArray[np.uint8], options: EngineOptions, how: dict[str, Any]
) -> None:
    path = make_model(**how)
    with open_backend("ort", path, 1) as reference, open_trt(path, options) as backend:
        assert (backend.input, backend.classes) == (reference.input, reference.classes)
        for size in (4,) if how.get("batch") else (1, 16, 3, 1):
            expected = logits(reference, clean[:size])
            np.testing.assert_allclose(
                logits(backend, clean[:size]), expected, atol=1e-2, rtol=1e-3
            )


def test_one_result_does_not_change_with_the_next(
    make_model: MakeModel, clean: NDArray[np.uint8], options: EngineOptions
) -> None:
    with open_trt(make_model(), options) as backend:
        first = logits(backend, clean[:1])
        kept = first.copy()
        logits(backend, clean[1:2])
        np.testing.assert_array_equal(first, kept)


def test_more_images_than_the_engine_takes_go_in_parts(
    make_model: MakeModel, clean: NDArray[np.uint8], options: EngineOptions
) -> None:
    path = make_model()
    with open_backend("ort", path, 1) as reference, open_trt(path, options) as backend:
        assert len(clean) > options.max_batch
        np.testing.assert_allclose(
            logits(backend, clean), logits(reference, clean), atol=1e-2, rtol=1e-3
        )


def test_images_of_another_shape_are_refused(
    make_model: MakeModel, clean: NDArray[np.uint8], options: EngineOptions
) -> None:
    with open_trt(make_model(), options) as backend:
        with pytest.raises(InputError, match=r"takes images of shape \(1, .* to \(16, .*came"):
            logits(backend, clean[:2, :, :4])
        assert logits(backend, clean[:16]).shape == (16, 4)
    with (
        open_trt(make_model(batch=4), options) as backend,
        pytest.raises(InputError, match=r"takes images of shape \(4, .*came \(3, "),
    ):
        logits(backend, clean[:3])


def test_an_engine_is_kept_and_a_damaged_one_is_built_again(
    make_model: MakeModel, clean: NDArray[np.uint8], options: EngineOptions
) -> None:
    path = make_model()
    said: list[str] = []

    def answer() -> NDArray[np.float32]:
        said.clear()
        told: Any = lambda done, total, text: said.append(text)  # noqa: E731
        with open_trt(path, options, report_progress=told) as backend:
            return logits(backend, clean[:8])

    expected = answer()
    assert any(text.startswith("TensorRT: ") for text in said)
    assert list(options.cache.glob("timing-*.cache"))
    np.testing.assert_array_equal(answer(), expected)
    assert said == []
    (engine,) = options.cache.glob("*.engine")
    engine.write_bytes(b"no engine")
    np.testing.assert_allclose(answer(), expected, atol=1e-2)
    assert said
    options = replace(options, max_batch=8)
    answer()
    assert len(list(options.cache.glob("*.engine"))) == 2


def test_an_engine_named_by_itself_is_run_with_its_record(
    make_model: MakeModel,
    make_card: Callable[..., ModelCard],
    clean: NDArray[np.uint8],
    options: EngineOptions,
) -> None:
    path = make_model(card=make_card())
    with open_trt(path, options) as backend:
        expected = logits(backend, clean[:8])
    (engine,) = options.cache.glob("*.engine")
    with open_trt(engine, EngineOptions()) as backend:
        np.testing.assert_array_equal(logits(backend, clean[:8]), expected)
        assert backend.card == replace(make_card(), parent_sha256=sha256_file(path))
    record = json.loads(record_path(engine).read_text())
    record["key"]["tensorrt"] = "10.3.99"
    record_path(engine).write_text(json.dumps(record))
    with pytest.raises(InputError, match="give its ONNX file"):
        open_trt(engine, EngineOptions())


def test_a_graph_that_tensorrt_cannot_read_is_named_in_one_line(
    make_model: MakeModel, options: EngineOptions
) -> None:
    path = make_model()
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"NatNul"))
    with pytest.raises(InputError, match=r"model\.onnx: TensorRT .* cannot read it") as caught:
        open_trt(path, options)
    assert "\n" not in str(caught.value)
    assert not list(options.cache.glob("*.engine"))


def test_bench_gives_the_masks_of_onnx_runtime(
    invoke: Callable[..., tuple[int, str, str]],
    make_model: MakeModel,
    make_set: Callable[..., Path],
    tmp_path: Path,
) -> None:
    model, sets = make_model(), make_set()
    reports = {}
    for backend in ("ort", "trt"):
        out = tmp_path / f"{backend}.json"
        where = ("--engine-cache", tmp_path / "engines") if backend == "trt" else ()
        code, stdout, _ = invoke(
            *("bench", model, "--sets", sets, "--backend", backend, "--out", out, "--json"),
            *("--runs", "3", "--seconds", "0", "--warmup", "1", "--batch-size", "8", *where),
        )
        assert code == 0
        json.loads(stdout)  # Nothing of TensorRT's came between.
        reports[backend] = read_json(out, Report, "a report")
    assert reports["trt"].clean_mask == reports["ort"].clean_mask
    assert reports["trt"].sets[0].mask == reports["ort"].sets[0].mask
    assert reports["trt"].backend.name == "trt"


def test_the_bindings_here_have_the_names_that_were_recorded() -> None:
    trt = pytest.importorskip("tensorrt")
    recorded = json.loads((Path(__file__).parents[2] / "data/tensorrt_names.json").read_text())
    known = recorded["tensorrt"].get(trt.__version__)
    if known is None:
        pytest.skip(f"no names of TensorRT {trt.__version__} are recorded")
    for kind, names in known["names"].items():
        if kind:  # What the package itself holds besides depends on how it is packed.
            assert set(names) <= set(dir(getattr(trt, kind)))
