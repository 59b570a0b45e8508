"""An engine is taken from the cache only where it is whole and of this very key.

The builder here writes bytes that are no engine: what is tested is what surrounds it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_bench.backends.engine_cache import (
    EngineKey,
    EngineRecord,
    Outside,
    cached_engine,
    engine_key,
    given_engine,
    profile_shapes,
    record_path,
)
from edge_bench.backends.gpu import Gpu
from edge_bench.core.errors import InputError
from edge_bench.core.progress import ProgressCallback, no_progress
from edge_bench.files.seals.content import sealed
from edge_bench.files.store import sha256_file
from edge_bench.options.engine import EngineOptions

ORIN = Gpu(name="Orin", compute_capability="8.7", multiprocessors=8)
OUTSIDE = Outside(
    input="images",
    dtype="float32",
    channels_last=False,
    image_shape=(3, 32, 24),
    batch_size=None,
    output="logits",
    classes=10,
)


class Builder:
    """Hands out numbered bytes and remembers how often it was asked."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self, timing: Path, report_progress: ProgressCallback) -> bytes:
        self.built += 1
        return b"built %d" % self.built


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "student.onnx"
    onnx.save(onnx.ModelProto(ir_version=9), path)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def key(source: Path) -> EngineKey:
    return engine_key(source, "10.3.0", ORIN, OUTSIDE, EngineOptions(workspace_mib=512))


def obtain(source: Path, key: EngineKey, cache: Path, build: Any, told: Any = no_progress) -> bytes:
    return cached_engine(source, key, OUTSIDE, None, cache, build, told)[0]


def only_engine(cache: Path) -> Path:
    (found,) = cache.glob("*.engine")
    return found


# --- shapes and options -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "shapes"),
    [
        ({}, ((1, 3, 32, 24), (4, 3, 32, 24), (16, 3, 32, 24))),
        ({"channels_last": True}, ((1, 32, 24, 3), (4, 32, 24, 3), (16, 32, 24, 3))),
        ({"batch_size": 2}, ((2, 3, 32, 24),) * 3),
    ],
)
def test_a_profile_spans_one_image_to_the_largest_batch(how: Any, shapes: Any) -> None:
    found = profile_shapes(replace(OUTSIDE, **how), EngineOptions(tuned_batch=4, max_batch=16))
    assert (found.smallest, found.tuned, found.largest) == shapes


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((1, 3, 32, 24), True),
        ((64, 3, 32, 24), True),
        ((65, 3, 32, 24), False),
        ((0, 3, 32, 24), False),
        ((1, 32, 24, 3), False),
        ((3, 32, 24), False),
    ],
)
def test_a_profile_knows_which_batches_it_takes(shape: tuple[int, ...], taken: bool) -> None:
    assert profile_shapes(OUTSIDE, EngineOptions()).take(shape) is taken


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"workspace_mib": 0}, "--workspace-mib 0: expected 1 or more"),
        ({"workspace_mib": 2**63}, "and at most 1048576"),
        ({"tuned_batch": 0}, "--tuned-batch 0: expected 1 to 64, the --batch-size"),
        ({"tuned_batch": 9, "max_batch": 8}, "--tuned-batch 9: expected 1 to 8"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        EngineOptions(**wrong)  # type: ignore[arg-type]


# --- found again, or built anew ---------------------------------------------------------------


def test_an_engine_is_built_once(source: Path, key: EngineKey, cache: Path) -> None:
    build = Builder()
    assert obtain(source, key, cache, build) == b"built 1"
    assert obtain(source, key, cache, build) == b"built 1"
    assert only_engine(cache).name == f"student-{key.digest()}.engine"


def test_the_record_tells_the_graph_s_outside_and_its_source(
    source: Path, key: EngineKey, cache: Path
) -> None:
    _, built = cached_engine(source, key, OUTSIDE, None, cache, Builder())
    _, found = cached_engine(source, key, OUTSIDE, None, cache, Builder())
    assert built == found
    assert (found.outside, found.source, found.key) == (OUTSIDE, "student.onnx", key)
    assert found.key.onnx_sha256 == sha256_file(source)


@pytest.mark.parametrize(
    "change",
    [
        {"onnx_sha256": "1" * 64},
        {"tensorrt": "10.3.1"},
        {"gpu": replace(ORIN, name="Thor")},
        {"gpu": replace(ORIN, compute_capability="8.9")},
        {"gpu": replace(ORIN, multiprocessors=16)},
        {"shapes": profile_shapes(OUTSIDE, EngineOptions(max_batch=32))},
        {"shapes": profile_shapes(OUTSIDE, EngineOptions(tuned_batch=2))},
        {"workspace_mib": None},
        {"build": 2},
    ],
)
def test_an_engine_is_built_anew_where_anything_it_depends_on_changes(
    source: Path, key: EngineKey, cache: Path, change: dict[str, Any]
) -> None:
    build = Builder()
    obtain(source, key, cache, build)
    other = replace(key, **change)
    assert obtain(source, other, cache, build) == b"built 2"
    # An engine and its record, carried to the name of another key, are not believed.
    mine, theirs = (cache / f"student-{k.digest()}.engine" for k in (key, other))
    theirs.replace(mine)
    record_path(theirs).replace(record_path(mine))
    assert obtain(source, key, cache, build) == b"built 3"


def test_changed_weights_beside_the_graph_change_the_key(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    model = onnx.load(make_model())
    path = tmp_path / "large.onnx"
    onnx.save(model, path, save_as_external_data=True, location="large.data", size_threshold=0)

    def key() -> EngineKey:
        return engine_key(path, "10.3.0", ORIN, OUTSIDE, EngineOptions())

    before = key()
    weights = np.fromfile(tmp_path / "large.data", dtype=np.uint8)
    weights[0] ^= 1
    weights.tofile(tmp_path / "large.data")
    assert key().onnx_sha256 != before.onnx_sha256


def _newer(text: str) -> str:
    return text.replace(
        f'"schema_version": {EngineRecord.FORMAT.version}', '"schema_version": 99', 1
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda engine: engine.write_bytes(b"built 2"),
        lambda engine: engine.write_bytes(engine.read_bytes()[:-1]),
        lambda engine: engine.unlink(),
        lambda engine: record_path(engine).unlink(),
        lambda engine: record_path(engine).write_text("{"),
        lambda engine: record_path(engine).write_text(_newer(record_path(engine).read_text())),
    ],
)
def test_a_damaged_engine_or_record_is_built_again(
    source: Path, key: EngineKey, cache: Path, spoil: Callable[[Path], Any]
) -> None:
    obtain(source, key, cache, Builder())
    spoil(only_engine(cache))
    again = Builder()
    again.built = 6
    assert obtain(source, key, cache, again) == b"built 7"
    assert only_engine(cache).read_bytes() == b"built 7"


def test_a_failed_build_leaves_nothing_to_believe(
    source: Path, key: EngineKey, cache: Path
) -> None:
    def fail(timing: Path, report_progress: ProgressCallback) -> bytes:
        raise InputError("no kernel")

    with pytest.raises(InputError, match="no kernel"):
        obtain(source, key, cache, fail)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    assert obtain(source, key, cache, Builder()) == b"built 1"


KILLED = """
import os, signal, sys
from pathlib import Path
from edge_bench.backends import engine_cache as cache
from tests_key import key, outside

def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
whole = Path.write_bytes
def half(path, content):
    whole(path, content[: len(content) // 2])
    die()

replace = Path.replace
def first(path, target):
    replace(path, target)
    die()

def build(timing, report_progress):
    if sys.argv[3] == "build": die()
    if sys.argv[3] == "write": Path.write_bytes = half
    if sys.argv[3] == "record": Path.replace = first
    return b"an engine"
cache.cached_engine(Path(sys.argv[1]), key, outside, None, Path(sys.argv[2]), build)
"""


@pytest.mark.parametrize("moment", ["build", "write", "record"])
def test_a_build_that_is_killed_is_built_again_and_its_remains_are_removed(
    source: Path, key: EngineKey, cache: Path, tmp_path: Path, moment: str
) -> None:
    names = ("EngineKey", "Gpu", "Outside", "Shapes")
    (tmp_path / "tests_key.py").write_text(
        "from edge_bench.backends.engine_cache import *\n"
        f"from edge_bench.backends.engine_cache import {', '.join(names)}\n"
        f"key, outside = {key!r}, {OUTSIDE!r}\n"
    )
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{KILLED}"
    command = [sys.executable, "-B", "-c", script, str(source), str(cache), moment]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert obtain(source, key, cache, Builder()) == b"built 1"
    suffixes = sorted(path.name.partition(".")[2] for path in cache.iterdir())
    assert suffixes == ["engine", "engine.json", "engine.lock"]


def test_two_that_want_one_engine_build_it_once(source: Path, key: EngineKey, cache: Path) -> None:
    building, waiting = threading.Event(), threading.Event()
    engines: list[bytes] = []
    said: list[str] = []

    def slow(timing: Path, report_progress: ProgressCallback) -> bytes:
        building.set()
        assert waiting.wait(60)
        return b"the first's"

    def told(done: int, total: int, text: str) -> None:
        said.append(text)
        waiting.set()

    first = threading.Thread(
        target=lambda: engines.append(obtain(source, key, cache, slow)), daemon=True
    )
    first.start()
    assert building.wait(60)
    second = Builder()
    assert obtain(source, key, cache, second, told) == b"the first's"
    first.join(60)
    assert engines == [b"the first's"]
    assert second.built == 0
    assert said == ["waiting: another process builds the engine of student.onnx"]


def test_a_whole_engine_is_taken_without_the_lock(
    source: Path, key: EngineKey, cache: Path
) -> None:
    obtain(source, key, cache, Builder())
    lock = cache / f"student-{key.digest()}.engine.lock"
    lock.unlink()
    assert obtain(source, key, cache, Builder()) == b"built 1"
    assert not lock.exists()


# --- an engine named by itself ----------------------------------------------------------------


@pytest.fixture
def engine(source: Path, key: EngineKey, cache: Path) -> Path:
    obtain(source, key, cache, Builder())
    return only_engine(cache)


def test_an_engine_of_this_machine_is_taken(engine: Path, key: EngineKey) -> None:
    content, record = given_engine(engine, "10.3.0", ORIN)
    assert (content, record.key) == (b"built 1", key)
    assert isinstance(record, EngineRecord)


@pytest.mark.parametrize(
    ("tensorrt", "gpu"),
    [
        ("10.7.0", ORIN),
        ("10.3.0", replace(ORIN, compute_capability="9.0")),
        ("10.3.0", replace(ORIN, multiprocessors=16)),
    ],
)
def test_an_engine_of_another_machine_is_refused_with_what_to_give_instead(
    engine: Path, tensorrt: str, gpu: Gpu
) -> None:
    with pytest.raises(
        InputError,
        match=r"was built by TensorRT 10\.3\.0 on Orin \(sm 8\.7, 8 .*give its ONNX file "
        r"\(student\.onnx\)",
    ):
        given_engine(engine, tensorrt, gpu)


def test_an_engine_without_its_record_is_refused(engine: Path) -> None:
    record_path(engine).unlink()
    with pytest.raises(InputError, match=r"expected the record that lies beside the engine"):
        given_engine(engine, "10.3.0", ORIN)


def test_an_engine_of_older_building_is_refused(engine: Path) -> None:
    data = json.loads(record_path(engine).read_text())
    data["key"]["build"] = 0
    record_path(engine).write_text(json.dumps(sealed(EngineRecord, data)))
    with pytest.raises(InputError, match="so that an engine is built here"):
        given_engine(engine, "10.3.0", ORIN)


def test_an_engine_that_is_not_the_one_of_its_record_is_refused(engine: Path) -> None:
    engine.write_bytes(b"another")
    with pytest.raises(InputError, match=r"has sha256 .* but its record speaks of"):
        given_engine(engine, "10.3.0", ORIN)
