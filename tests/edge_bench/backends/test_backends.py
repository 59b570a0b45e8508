"""ONNX Runtime opens classifiers of images and says what is wrong with everything else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_bench.backends import open_backend, ort
from edge_bench.core.errors import CapabilityError, InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.onnx_file import read_card

MakeModel = Callable[..., Path]


def open_ort(path: Path) -> Any:
    return open_backend("ort", path, 1)


def test_an_artefact_gives_the_logits_of_its_graph(
    make_model: MakeModel, weight: NDArray[np.float32], clean: NDArray[np.uint8]
) -> None:
    batch = clean.astype(np.float32) / 255
    with open_ort(make_model()) as backend:
        logits = backend.infer(batch)
    np.testing.assert_allclose(logits, batch.reshape(len(batch), -1) @ weight.T, atol=1e-3)


@pytest.mark.parametrize(
    ("how", "dtype", "channels_last", "batch_size"),
    [
        ({}, "float32", False, None),
        ({"batch": 4}, "float32", False, 4),
        ({"channels_last": True}, "float32", True, None),
        ({"dtype": "uint8", "channels_last": True}, "uint8", True, None),
        ({"dtype": "float16"}, "float16", False, None),
    ],
)
def test_an_artefact_s_input_is_read_from_its_graph(
    make_model: MakeModel,
    how: dict[str, Any],
    dtype: str,
    channels_last: bool,
    batch_size: int | None,
) -> None:
    with open_ort(make_model(**how)) as backend:
        found = backend.input
    assert (found.dtype, found.channels_last, found.batch_size) == (
        dtype,
        channels_last,
        batch_size,
    )
    assert found.image_shape == (3, 8, 8)


def test_sizes_that_the_graph_leaves_open_are_none(make_model: MakeModel) -> None:
    with open_ort(make_model(shape=(3, "height", "width"), classes="classes")) as backend:
        assert backend.input.image_shape == (3, None, None)
        assert backend.classes is None


def test_the_runtime_is_named_with_its_version_and_providers(make_model: MakeModel) -> None:
    with open_ort(make_model()) as backend:
        info = backend.info
    assert (info.name, info.version) == ("ort", onnxruntime.__version__)
    assert (info.providers, info.threads) == (("CPUExecutionProvider",), 1)


def test_the_runtime_takes_the_threads_that_were_asked_for(make_model: MakeModel) -> None:
    with open_backend("ort", make_model(), 3) as backend:
        options = vars(backend)["_session"].get_session_options()
    assert options.intra_op_num_threads == 3


def test_an_artefact_s_card_is_read(
    make_model: MakeModel, make_card: Callable[..., ModelCard]
) -> None:
    card = make_card(parent_sha256="f" * 64, recipe={"method": "rslad"})
    with open_ort(make_model(card=card)) as backend:
        assert backend.card == card


@pytest.mark.parametrize("value", ["0", "1"])
def test_the_session_options_of_a_card_are_applied(
    make_model: MakeModel, make_card: Callable[..., ModelCard], value: str
) -> None:
    key = "session.qdqisint8allowed"
    with open_ort(make_model(card=make_card(session_options={key: value}))) as backend:
        options = vars(backend)["_session"].get_session_options()
    assert options.get_session_config_entry(key) == value


def test_a_card_is_found_on_either_side_of_a_large_graph(
    make_model: MakeModel, make_card: Callable[..., ModelCard]
) -> None:
    path, card = make_model(card=make_card()), make_card()
    content = path.read_bytes()
    model = onnx.load(path)
    model.ClearField("graph")
    small = model.SerializeToString()
    model = onnx.load(path)
    model.ClearField("metadata_props")
    # Protobuf joins the fields of two messages, in any order.
    for joined in (small + model.SerializeToString(), model.SerializeToString() + small, content):
        path.write_bytes(joined)
        assert read_card(path) == card


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"\xff" * 40, b"\x72\xff\xff\xff\xff\x0f", b"PK"]
)
def test_what_is_no_protobuf_has_no_card(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert read_card(tmp_path / "a") is None


def test_an_artefact_without_a_card_has_none(make_model: MakeModel) -> None:
    with open_ort(make_model()) as backend:
        assert backend.card is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", r"its model card \(ardx_card\) is not JSON .* make the file again"),
        ("{}", "expected a model card, found JSON without a schema_version"),
        ('{"schema_version": 9}', "schema version 9 of a model card"),
        ('{"schema_version": 1}', "field 'architecture' is missing"),
        (
            '{"schema_version": 1, "architecture": "a", "dataset": "b", "classes": 2, '
            '"input_shape": [1, 2, 3], "session_options": {"ep.context_enable": "1"}}',
            "model card: expected session options session.qdqisint8allowed or "
            "session.disable_quant_qdq of 0 or 1, came ep",
        ),
    ],
)
def test_a_damaged_card_is_refused(make_model: MakeModel, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=rf"model\.onnx: {sentence}"):
        open_ort(make_model(card_text=text))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"inputs": 2}, r"came 2 inputs \(images, more1\)"),
        ({"shape": (192,)}, r"expected an image input .*came tensor\(float\) of shape"),
        ({"output": "cast"}, r"expected one output of logits .*came cast"),
        ({"dtype": "int64"}, r"expected an image input .*came tensor\(int64\)"),
    ],
)
def test_a_graph_that_is_no_image_classifier_is_refused(
    make_model: MakeModel, how: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=rf"model\.onnx: .*{sentence}.*export"):
        open_ort(make_model(**how))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"import torch\n",
        lambda content: bytes(len(content)),
        lambda content: b"\x89PNG\r\n\x1a\n" + content,
    ],
)
def test_a_file_that_is_no_whole_onnx_model_is_refused_in_one_line(
    make_model: MakeModel, spoil: Callable[[bytes], bytes]
) -> None:
    path = make_model()
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"an ONNX model.*export") as caught:
        open_ort(path)
    assert "\n" not in str(caught.value)


def test_an_empty_model_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(InputError, match="expected an ONNX model, found an empty file"):
        open_ort(tmp_path / "empty.onnx")


def test_a_missing_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an ONNX model, found no file there"):
        open_ort(tmp_path / "none.onnx")


def test_a_graph_that_fails_on_a_batch_is_named_with_the_batch(
    make_model: MakeModel, clean: NDArray[np.uint8]
) -> None:
    # A reshape that an exporter froze to one image, behind a batch size declared free.
    with open_ort(make_model(reshape_to=(1, 192))) as backend:
        assert backend.infer(clean[:1].astype(np.float32)).shape == (1, 4)
        with pytest.raises(
            InputError, match=r"failed on a batch of shape \(8, 3, 8, 8\)"
        ) as caught:
            backend.infer(clean[:8].astype(np.float32))
    assert "\n" not in str(caught.value)


def test_a_missing_runtime_is_met_with_the_command_that_installs_it(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_model()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CapabilityError, match=r"needs onnxruntime .*pip install 'ardx\[edge\]'"):
        open_ort(path)


def test_a_broken_runtime_is_met_with_the_command_that_mends_it(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a half-removed package is: a folder that imports, with nothing in it.
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(CapabilityError, match=r"is broken .*pip install --force-reinstall onnxru"):
        open_ort(make_model())


def test_an_unknown_backend_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--backend tflite: expected one of ort, .*, trt"):
        open_backend("tflite", tmp_path, None)


# --- other execution providers ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ort-cuda", "ort-tensorrt"])
def test_a_provider_that_this_build_lacks_is_named_with_those_that_it_has(
    make_model: MakeModel, name: str
) -> None:
    if ort.PROVIDERS[name] in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {ort.PROVIDERS[name]}")
    sentence = rf"--backend {name} needs .*{ort.PROVIDERS[name]}, but .* has .*CPUExecutionProvider"
    with pytest.raises(CapabilityError, match=sentence + ".*onnxruntime-gpu.*--backend ort"):
        open_backend(name, make_model(), 1)


def test_nodes_that_a_provider_would_leave_to_the_cpu_are_an_error(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # One that runs next to nothing, and comes with builds for the CPU.
    provider = "AzureExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {provider}")
    path = make_model()
    session = onnxruntime.InferenceSession(path, providers=[provider])
    assert session.get_providers() == [provider, "CPUExecutionProvider"], "it falls back silently"
    monkeypatch.setitem(ort.PROVIDERS, "ort-cuda", provider)
    monkeypatch.setattr(ort, "provider_options", lambda *_: {})
    with pytest.raises(
        CapabilityError, match=rf"ort-cuda: {provider} does not run all of .*nodes.*silently"
    ) as caught:
        open_backend("ort-cuda", path, 1)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_rounding_to_tf32_is_switched_off_where_onnx_runtime_can(
    make_card: Callable[..., ModelCard],
) -> None:
    class Version:
        __version__ = "1.17.3"

    assert ort.provider_options(Version, "ort-cuda", None) == {}
    Version.__version__ = "1.31.1"
    assert ort.provider_options(Version, "ort-cuda", None) == {"use_tf32": "0"}
    int8 = make_card(precision="int8")
    assert ort.provider_options(Version, "ort-tensorrt", int8) == {"trt_int8_enable": "1"}


def test_a_graph_that_never_ends_is_ended_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "FIRST_SECONDS", 0.2)
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Neg", ["before"], ["after"]),
        ],
        "body",
        [
            info("at", TensorProto.INT64, []),
            info("on", TensorProto.BOOL, []),
            info("before", TensorProto.FLOAT, ["n", 4]),
        ],
        [info("still", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, ["n", 4])],
    )
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Loop", ["times", "", "flat"], ["logits"], body=body),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [info("images", TensorProto.FLOAT, ["n", 4, 8, 8])],
        [info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.array(2**62), "times")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "endless.onnx")
    with (
        open_backend("ort", tmp_path / "endless.onnx", 1) as backend,
        pytest.raises(InputError, match=r"endless\.onnx: its first inference did not end"),
    ):
        backend.infer(np.zeros((1, 4, 8, 8), np.float32))
