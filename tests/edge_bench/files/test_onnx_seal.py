"""An ONNX file of ours knows its own content, wherever it was copied to, with nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import onnx
import pytest

from edge_bench.backends import open_backend
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard
from edge_bench.files.seals.graph import BLANK, KEY, is_sealed, require_as_sealed, seal


@pytest.fixture
def sealed_model(make_model: Callable[..., Path], make_card: Callable[..., ModelCard]) -> Path:
    path = make_model(card=make_card())
    model = onnx.load(path)
    model.metadata_props.add(key=KEY, value=BLANK)
    onnx.save(model, path)
    seal(path)
    return path


def test_every_flipped_bit_is_refused_or_takes_the_seal_alone(sealed_model: Path) -> None:
    require_as_sealed(sealed_model)
    content, random = sealed_model.read_bytes(), Random(0)
    key = content.index(KEY.encode())
    for bit in [*random.sample(range(8 * len(content)), 300), *range(8 * key, 8 * key + 16)]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        sealed_model.write_bytes(flipped)
        if is_sealed(sealed_model):
            with pytest.raises(InputError, match="its content is not what was exported"):
                require_as_sealed(sealed_model)
        else:
            # The flip is in the entry itself, so that all the rest is as it was.
            assert abs(bit // 8 - key) < len(KEY) + 2 + len(BLANK)


def test_what_stands_behind_the_seal_is_sealed_too(sealed_model: Path) -> None:
    content = sealed_model.read_bytes()
    # One field more, which any reader of protobuf takes: the name of its producer.
    sealed_model.write_bytes(content + b"\x12\x01x")
    assert onnx.load(sealed_model).producer_name == "x"
    with pytest.raises(InputError, match="its content is not what was exported"):
        require_as_sealed(sealed_model)


def test_a_changed_file_is_not_run_and_one_without_a_seal_is(
    sealed_model: Path, make_model: Callable[..., Path]
) -> None:
    model = onnx.load(sealed_model)
    weight = model.graph.initializer[0]
    weight.raw_data = weight.raw_data[:-1] + bytes([weight.raw_data[-1] ^ 1])
    onnx.save(model, sealed_model)
    with pytest.raises(InputError, match=f"was damaged or changed; .* take {KEY} out of its meta"):
        open_backend("ort", sealed_model, 1)
    with open_backend("ort", make_model("foreign.onnx"), 1) as backend:
        assert backend.card is None
