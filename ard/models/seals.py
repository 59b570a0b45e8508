"""A hash inside a file of tensors, over all of it, by which damage is known when it is read.

It lies in the JSON text that such a file carries already (a card, or settings), since a second
entry of metadata would be written now before and now behind the first, and the same weights would
be files of different hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_bench.core.errors import InputError
from edge_bench.core.parse import json_of

SEAL = "content_sha256"
"""The field of the JSON text that holds the hash."""


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], key: str) -> dict[str, str]:
    """`metadata` with the hash of all of it and of `tensors` in the JSON object at `key`."""
    text = _object(metadata.get(key, ""))
    if text is None:
        return dict(metadata)
    return {**metadata, key: json.dumps({**text, SEAL: _hash(tensors, {**metadata, key: text})})}


def unsealed(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], key: str, path: Path
) -> dict[str, str]:
    """`metadata` as it was before `sealed`; one without a seal, of an older ardx, as it is.

    Raises:
        InputError: not what was sealed.
    """
    text = _object(metadata.get(key, ""))
    if text is None or SEAL not in text:
        return dict(metadata)
    seal = text.pop(SEAL)
    if seal != _hash(tensors, {**metadata, key: text}):
        raise InputError(
            f"{path}: its content is not what was written (the {SEAL} inside is of other content), "
            "so it was damaged or changed; copy it again from where it came, or make it again"
        )
    return {**metadata, key: json.dumps(text)}


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object; None for what is none, which its reader refuses."""
    try:
        data = json_of(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Over metadata, and over the names, types, shapes and bytes of the tensors."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
