"""TensorRT for RTX for real, but for running what it builds: engines, their records, bundles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_bench.backends import engine as building
from edge_bench.backends import open_backend
from edge_bench.backends.engine import build_engine
from edge_bench.backends.engine_cache import (
    EngineRecord,
    bundled_engine,
    cached_engine,
    engine_key,
    given_engine,
    record_path,
)
from edge_bench.backends.gpu import Gpu, probe_gpu
from edge_bench.backends.nvidia import TENSORRT, bindings_of, reason, require_tensorrt
from edge_bench.backends.trt import outside_of
from edge_bench.backends.trt_rtx import TENSORRT_RTX, build_ahead, known_capabilities
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.progress import ProgressCallback
from edge_bench.files.store import read_json
from edge_bench.files.unpack import unpacked
from edge_bench.options.engine import EngineOptions

MakeModel = Callable[..., Path]
Invoke = Callable[..., tuple[int, str, str]]

RTX_3060 = Gpu(name="NVIDIA GeForce RTX 3060", compute_capability="8.6", multiprocessors=28)
H100 = Gpu(name="NVIDIA H100", compute_capability="9.0", multiprocessors=132)


@pytest.fixture
def ahead(rtx: Any, tmp_path: Path) -> Callable[..., Path]:
    """Build a model's engine beside it."""

    def build(model: Path, wanted: str = "sm86,sm120", **options: Any) -> Path:
        out = tmp_path / f"{model.stem}.engine"
        here = EngineOptions(cache=tmp_path / "cache", **options)
        build_ahead(model, out, wanted, here, force=True)
        return out

    return build


def in_a_process(*words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own; after a build that failed, this one builds no more."""
    command = [sys.executable, "-m", "edge_bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- engines and their records ----------------------------------------------------------------


def test_an_engine_is_written_with_its_record(
    invoke: Invoke, make_model: MakeModel, rtx: Any, tmp_path: Path
) -> None:
    model, out = make_model(), tmp_path / "student.engine"
    command = ("engine", model, "--for", "sm120,sm86", "--batch-size", "16", "--out", out)
    code, stdout, stderr = invoke(*command, "--json")
    assert code == 0
    told = json.loads(stdout)  # Nothing of TensorRT's came between.
    assert told["capabilities"] == ["8.6", "12.0"]
    assert told["compiler"] == f"TensorRT for RTX {rtx.__version__}"
    assert "TensorRT for RTX: Building" in stderr
    record = read_json(record_path(out), EngineRecord, "the record of an engine")
    assert (record.engine_sha256, record.source) == (told["sha256"], model.name)
    assert (record.key.gpu, record.key.shapes.largest) == (None, (16, 3, 8, 8))
    before = out.read_bytes(), record_path(out).read_bytes()
    assert invoke(*command)[0] == 2
    assert (out.read_bytes(), record_path(out).read_bytes()) == before
    assert sorted(path.name for path in tmp_path.glob("student*")) == [
        "student.engine",
        "student.engine.json",
    ]


def test_an_engine_runs_on_what_it_was_built_for_alone(
    ahead: Callable[..., Path], make_model: MakeModel, rtx: Any
) -> None:
    engine, here = ahead(make_model()), (rtx.__version__, RTX_3060, TENSORRT_RTX.title)
    assert given_engine(engine, *here)[0] == engine.read_bytes()
    made = rf"built by TensorRT for RTX {rtx.__version__} for sm86, sm120, and this is"
    for version, gpu, title in (
        (rtx.__version__, H100, TENSORRT_RTX.title),
        ("1.99.0", RTX_3060, TENSORRT_RTX.title),
        (rtx.__version__, RTX_3060, TENSORRT.title),
    ):
        with pytest.raises(InputError, match=f"{made} {title} {version} on .*give its ONNX file"):
            given_engine(engine, version, gpu, title)
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(InputError, match="its record speaks of"):
        given_engine(engine, *here)


def test_a_key_follows_from_compiler_capabilities_and_shapes(make_model: MakeModel) -> None:
    model = make_model()
    outside, _ = outside_of(model)

    def key(capabilities: tuple[str, ...], compiler: str = "TensorRT for RTX", **how: Any) -> str:
        options = EngineOptions(**how)
        found = engine_key(
            model, "1.7", None, outside, options, compiler=compiler, capabilities=capabilities
        )
        return found.digest()

    one = key(("8.6",))
    assert one == key(("8.6",))
    others = [key(("8.6", "12.0")), key(("8.6",), "TensorRT"), key(("8.6",), max_batch=2)]
    assert len({one, *others}) == 4


def test_the_cache_builds_once_and_again_for_what_is_stale(
    rtx: Any, make_model: MakeModel, tmp_path: Path
) -> None:
    model, cache, built = make_model(), tmp_path / "engines", []
    outside, card = outside_of(model)
    key = engine_key(
        model,
        rtx.__version__,
        None,
        outside,
        EngineOptions(),
        compiler=TENSORRT_RTX.title,
        capabilities=("8.6",),
    )

    def obtain(asked: Any = key) -> bytes:
        def build(timing: Path, told: ProgressCallback) -> bytes:
            built.append(timing.name)
            return build_engine(model, asked, outside, timing, told, TENSORRT_RTX)

        return cached_engine(model, asked, outside, card, cache, build)[0]

    assert obtain() == obtain()
    assert built == [f"timing-tensorrt-for-rtx-{rtx.__version__}-sm86.cache"]
    assert (cache / built[0]).stat().st_size > 0
    (engine,) = cache.glob("*.engine")
    engine.write_bytes(b"damaged")
    obtain()
    (cache / built[0]).write_bytes(b"no timing cache")
    obtain(replace(key, capabilities=("8.9",)))
    assert len(built) == 3
    assert len(list(cache.glob("*.engine"))) == 2


def test_an_interrupted_build_leaves_nothing(
    ahead: Callable[..., Path], make_model: MakeModel, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int, text: str) -> None:
        if done > 0:
            raise KeyboardInterrupt

    model, out = make_model(), tmp_path / "student.engine"
    here = EngineOptions(cache=tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        build_ahead(model, out, "sm86", here, force=False, report_progress=interrupt)
    assert not list(tmp_path.glob("*student*"))
    assert not list((tmp_path / "cache").iterdir())
    ahead(model)  # And the next build goes through.


def test_progress_goes_forward_from_nought_to_the_end(
    rtx: Any, make_model: MakeModel, tmp_path: Path
) -> None:
    said: list[int] = []
    build_ahead(
        make_model(),
        tmp_path / "student.engine",
        "sm86",
        EngineOptions(cache=tmp_path),
        force=False,
        report_progress=lambda done, total, text: said.append(done),
    )
    assert said[0] == 0
    assert said == sorted(said)
    assert len(said) > 3


@pytest.mark.parametrize(
    "how", [{"batch": 4}, {"channels_last": True, "dtype": "uint8"}, {"dtype": "float16"}]
)
def test_inputs_of_every_form_are_built(
    ahead: Callable[..., Path], make_model: MakeModel, how: dict[str, Any]
) -> None:
    assert ahead(make_model(**how), workspace_mib=256, tuned_batch=4).stat().st_size > 0


# --- bundles ----------------------------------------------------------------------------------


def test_a_bundle_brings_an_engine_that_runs_only_where_it_is_asked_for(
    invoke: Invoke, make_model: MakeModel, rtx: Any, tmp_path: Path
) -> None:
    model, bundle, out = make_model(), tmp_path / "student.ardx", tmp_path / "report.json"
    assert invoke("bundle", model, "--for", "sm86,sm120", "--out", bundle)[0] == 0
    with zipfile.ZipFile(bundle) as archive:
        names = [name for name in archive.namelist() if name.startswith("engines/")]
        assert names == [f"engines/{model.stem}.engine", f"engines/{model.stem}.engine.json"]
        assert set(names) < set(json.loads(archive.read("manifest.json"))["members"])
        assert (
            f"tensorrt-rtx-cu13-libs=={rtx.__version__}\n"
            in archive.read("requirements.lock").decode()
        )
    outside, _ = outside_of(model)

    def key(**options: Any) -> Any:
        return engine_key(
            model,
            rtx.__version__,
            None,
            outside,
            EngineOptions(**options),
            compiler=TENSORRT_RTX.title,
            capabilities=("8.6",),
        )

    with unpacked(bundle) as parts:
        assert parts.engines is not None
        _, record = bundled_engine(parts.engines, key(max_batch=16), RTX_3060)
        assert record.key.capabilities == ("8.6", "12.0")
        for asked, gpu in (
            (key(), H100),
            (key(max_batch=65), RTX_3060),
            (replace(key(), tensorrt="1.99"), RTX_3060),
            (replace(key(), onnx_sha256="0" * 64), RTX_3060),
        ):
            with pytest.raises(InputError, match=r"brings engines by TensorRT for RTX .* leave"):
                bundled_engine(parts.engines, asked, gpu)
    # ONNX Runtime has nothing to do with it, and without the option nothing opens it.
    code, _, text = invoke("bench", bundle, "--bundled-engine", "--out", out)
    assert (code, text) == (
        2,
        "error: --bundled-engine: belongs to TensorRT for RTX; give --backend trt-rtx\n",
    )
    quick = ("--runs", "3", "--seconds", "0", "--warmup", "1", "--idle-seconds", "0")
    assert invoke("bench", bundle, "--out", out, *quick)[0] == 0


def test_a_bundle_without_an_engine_is_named(
    invoke: Invoke, make_model: MakeModel, tmp_path: Path
) -> None:
    model, bundle = make_model(), tmp_path / "student.ardx"
    assert invoke("bundle", model, "--out", bundle)[0] == 0
    command = ("--backend", "trt-rtx", "--bundled-engine", "--out", tmp_path / "report.json")
    for given in (bundle, model):
        code, _, text = invoke("bench", given, *command)
        assert code == 2
        assert "brings no engine; leave it out, or pack a bundle that does" in text


# --- what does not fit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("sm87", "came sm87; nvidia-smi"),
        ("8.6", r"of sm75, .*sm86.*sm120"),
        ("sm86,", "came nothing"),
    ],
)
def test_capabilities_that_are_not_known(
    ahead: Callable[..., Path], make_model: MakeModel, wanted: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        ahead(make_model(), wanted)


def test_a_gpu_that_it_has_no_kernels_for_is_named(rtx: Any) -> None:
    assert TENSORRT_RTX.aim is not None
    with pytest.raises(CapabilityError, match=r"builds for sm75, .*and this GPU is sm90; take"):
        TENSORRT_RTX.aim(rtx, None, ("9.0",))
    assert "sm90" not in known_capabilities(rtx)


def test_what_cannot_be_built_ends_with_a_sentence_and_leaves_what_was_there(
    make_model: MakeModel, rtx: Any, tmp_path: Path
) -> None:
    model, out = make_model(), tmp_path / "student.engine"
    out.write_bytes(b"an older one")
    ended = in_a_process("engine", model, "--for", "sm75", "--force", "--out", out)
    assert ended.returncode == 3
    error = ended.stderr.splitlines()[-1]
    assert error.startswith(f"error: {model}: TensorRT for RTX {rtx.__version__} cannot build")
    assert "for sm75" in error
    assert "FP32 GEMM is not supported" in error
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert out.read_bytes() == b"an older one"


def test_no_room_for_the_engine(make_model: MakeModel, rtx: Any, tmp_path: Path) -> None:
    model, out = make_model(), tmp_path / "student.engine"
    out.write_bytes(b"an older one")
    record_path(out).write_text("its record")
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from edge_bench.cli import app\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "app(sys.argv[1:])\n"
    )
    words = ("engine", model, "--for", "sm86", "--force", "--out", out)
    command = [sys.executable, "-c", script, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert f"error: {out}: " in ended.stderr
    assert "free space there" in ended.stderr
    assert (out.read_bytes(), record_path(out).read_text()) == (b"an older one", "its record")
    assert sorted(path.name for path in tmp_path.glob("*student*")) == [
        "student.engine",
        "student.engine.json",
    ]


def test_after_a_build_that_failed_a_process_builds_no_more(
    ahead: Callable[..., Path], make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_failed", [Path("other.onnx")])
    with pytest.raises(CapabilityError, match=r"a build of other\.onnx failed in this process"):
        ahead(make_model())


def test_without_a_gpu_the_backend_says_so(
    invoke: Invoke, make_model: MakeModel, rtx: Any, tmp_path: Path
) -> None:
    try:
        probe_gpu()
    except CapabilityError:
        pass
    else:
        pytest.skip("a GPU is here")
    command = ("bench", make_model(), "--backend", "trt-rtx", "--out", tmp_path / "report.json")
    code, _, text = invoke(*command)
    assert (code, text.count("\n")) == (3, 1)
    assert text.startswith("error: --backend trt-rtx needs an NVIDIA GPU and its driver (libcuda")


def test_without_its_package_the_sentence_names_the_extra(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TENSORRT_RTX.modules:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CapabilityError, match=r"pip install 'ardx\[tensorrt-rtx\]'"):
        open_backend("trt-rtx", make_model(), None)


def test_one_process_speaks_to_one_of_the_two(rtx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    both = type(sys)("tensorrt")
    both.__dict__["__version__"] = "10.3.0"
    monkeypatch.setitem(sys.modules, "tensorrt", both)
    assert bindings_of(TENSORRT) is both  # Only looked at, as doctor does.
    with pytest.raises(CapabilityError, match=r"other compiler already.*a command of its own"):
        require_tensorrt(TENSORRT)
    assert require_tensorrt(TENSORRT_RTX) is rtx


def test_both_bindings_load_beside_a_switch_that_the_user_set(rtx: Any) -> None:
    script = (
        "from edge_bench.backends.nvidia import require_tensorrt\n"
        "from edge_bench.backends.trt_rtx import TENSORRT_RTX\n"
        "from polygraphy import config\n"
        "print(require_tensorrt(TENSORRT_RTX).__name__, config.USE_TENSORRT_RTX)\n"
    )
    environment = os.environ | {"POLYGRAPHY_USE_TENSORRT_RTX": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert ended.stdout.split() == [rtx.__name__, "True"]


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        (["[E] x (cudaError 35: driver is insufficient)", "[E] In node 3: no"], "In node 3: no"),
        (["[E] x (cudaError 35: driver is insufficient)"], "x (cudaError 35"),
    ],
)
def test_that_no_gpu_answers_hides_nothing_else(errors: list[str], sentence: str) -> None:
    assert reason(errors, RuntimeError("Invalid Engine")).startswith(sentence)
