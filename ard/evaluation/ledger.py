"""What an evaluation has found so far, on disk, so that an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edge_bench.core.parse import json_of
from edge_bench.files.store import TEXT, write_json
from edge_bench.statistics.metrics import BoolArray, decode_mask, encode_mask


class Ledger:
    """Masks by attack in a hidden file beside the report that they will end up in.

    Args:
        report: where the whole evaluation will be written.
        asked: everything that the masks follow from, as plain JSON values; what was found for
            something else is not taken over.
    """

    def __init__(self, report: Path, asked: dict[str, Any]) -> None:
        text = json.dumps(asked, sort_keys=True)
        self._identity = hashlib.sha256(text.encode()).hexdigest()
        self.path = report.with_name(f".{report.stem}.unfinished{report.suffix}")
        self.masks: dict[str, BoolArray] = self._read()

    def _read(self) -> dict[str, BoolArray]:
        try:
            found = json_of(self.path.read_text(encoding=TEXT))
            # Masks that nobody vouches for, damaged or of an older ardx, are found again.
            if found["sha256"] != _hash(self._identity, found["masks"]):
                return {}
            return {name: decode_mask(mask) for name, mask in found["masks"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Nothing there, or nothing of ours: the evaluation begins anew.
            return {}

    def add(self, name: str, mask: BoolArray) -> None:
        """Keep the mask of an attack that is done."""
        self.masks[name] = mask
        masks = {name: encode_mask(mask) for name, mask in self.masks.items()}
        found = {"masks": masks, "sha256": _hash(self._identity, masks)}
        write_json(self.path, found, force=True)

    def close(self) -> None:
        """The evaluation is whole and written: forget its parts."""
        self.path.unlink(missing_ok=True)


def _hash(identity: str, masks: dict[str, str]) -> str:
    """Over what was asked and what was found."""
    return hashlib.sha256(json.dumps([identity, masks]).encode()).hexdigest()
