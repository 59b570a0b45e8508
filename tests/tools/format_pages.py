"""Write docs/reference/formats/versions.md, and a JSON Schema of each format beside it.

    .venv/bin/python -m tests.tools.format_pages

`tests/test_formats.py` says when they are stale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ard.evaluation.record import EvaluationRecord
from ard.learning.run_state import CHECKPOINT_FORMAT
from edge_bench.backends.engine_cache import EngineRecord
from edge_bench.core.formats import KEY, WRITER, Format
from edge_bench.core.gate import Gate
from edge_bench.core.spec import ModelCard, Report, SetManifest
from edge_bench.explain.departures import Explanation
from edge_bench.explain.probe_file import About
from edge_bench.files.bundle import BundleManifest
from edge_bench.files.fingerprint import Origin
from edge_bench.files.pictures.crafted import CraftedPictures
from edge_bench.files.seals.content import SEAL
from edge_bench.files.set_writer import SetProgress
from edge_bench.policy.baseline import Baseline
from edge_bench.report.compare import Comparison

FORMATS = Path(__file__).parents[2] / "docs" / "reference" / "formats"
DRAFT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is said of one kind of file: its schema's name, its dataclass, and where it lies."""

    name: str
    kind: type[Any]
    where: str


PAGES = (
    Page(
        name="model_card",
        kind=ModelCard,
        where="In the metadata of weights (`NAME.safetensors`, of `teach`, `distill` and `adopt`) "
        "and of artefacts (`NAME.onnx`, of `export`), under the key `ardx_card`.",
    ),
    Page(
        name="set_manifest",
        kind=SetManifest,
        where="`manifest.json` in the folder of a set (`attack`), beside the arrays `images.npy`, "
        "`clean.npy`, `labels.npy` and `source_success.npy`.",
    ),
    Page(name="report", kind=Report, where="What `bench --out` writes."),
    Page(
        name="comparison",
        kind=Comparison,
        where="`NAME-all.json`, which `bench --backend all --out NAME.json` writes beside its "
        "reports.",
    ),
    Page(name="baseline", kind=Baseline, where="What `gate --update-baseline` writes."),
    Page(name="evaluation", kind=EvaluationRecord, where="What `evaluate --out` writes."),
    Page(
        name="bundle_manifest",
        kind=BundleManifest,
        where="`manifest.json` in a bundle (`NAME.ardx`, of `bundle`), a zip archive of stored "
        "members. Each member is of the version of its own format.",
    ),
    Page(
        name="fingerprint",
        kind=Origin,
        where="`about` in `NAME.fingerprint.npz`, which `export` writes beside `NAME.onnx`; the "
        "arrays `images` and `logits` lie beside it.",
    ),
    Page(
        name="probe",
        kind=About,
        where="`about` in `NAME.probe.npz`, which `export --probe` writes beside "
        "`NAME.probe.onnx`; the arrays `images` and `values` lie beside it.",
    ),
    Page(
        name="explanation",
        kind=Explanation,
        where="`NAME.explain.json`, which `bench --explain --out NAME.json` writes.",
    ),
    Page(
        name="crafted_pictures",
        kind=CraftedPictures,
        where="`attack.json` beside the classes' folders of `attack --pictures --out`.",
    ),
    Page(
        name="engine_record",
        kind=EngineRecord,
        where="`NAME.engine.json` beside an engine: in the cache, of `engine`, or in a bundle. An "
        "engine whose record is of a newer version is built again.",
    ),
    Page(
        name="set_progress",
        kind=SetProgress,
        where="`progress.json` in the hidden folder of a set that `attack` has not finished. One "
        "of another ardx begins anew.",
    ),
)

INTRODUCTION = f"""# Versions of the file formats

Every format below has a version of its own, which its files say in `{KEY}`. This ardx reads all
versions below, and writes the last one of each. A file of a newer version is refused with a
sentence that names the file, its version, and the ardx to use.

A field is never added, removed or given another meaning without a new version. So a field that is
not in the schema is a slip, and is refused by its name. The schemas (JSON Schema 2020-12) hold for
every version that needs no upgrade, and for the newest one in any case.

This page and the schemas are written by `python -m tests.tools.format_pages`.
"""

OTHERS = """## Files without a version

Conditions for `bundle --gate` ([schema](gate.schema.json)) and recipes (`config.toml`) are TOML
that people write, and say no version; a [policy](../../how-to/gate-policy.md) (`gate --policy`,
often `gate.toml`) may say `schema_version = 1`. A condition or setting that is not known is refused
by its name, and one that is not there takes its default. Masks of an unfinished `evaluate`, and the
journal of an unfinished `bench`, are read by the ardx that wrote them alone; another one begins
anew.
"""


def _strict(schema: Any) -> Any:
    """Without titles, which only repeat names, and with no field besides those that are named."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {k: _strict(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    if isinstance(schema.get("properties"), dict):
        found["additionalProperties"] = False
    return found


def schema_of(kind: type[Any]) -> dict[str, Any]:
    """The JSON Schema of a dataclass, as strict as `store.from_json` is."""
    schema: dict[str, Any] = {"$schema": DRAFT} | _strict(TypeAdapter(kind).json_schema())
    formats = {page.kind.__name__: page.kind.FORMAT for page in PAGES}
    parts = {kind.__name__: schema} | schema.get("$defs", {})
    for name in parts.keys() & formats.keys():
        newest = formats[name].version
        fields = parts[name]["properties"]
        if formats[name].sealed_from is not None and name == kind.__name__:
            fields.setdefault(SEAL, {"type": "string"})
        fields[KEY] = {"type": "integer", "minimum": 1, "maximum": newest}
        # That of the ardx which runs: no default of the format.
        fields.get(WRITER, {}).pop("default", None)
    if kind.__name__ in formats:
        schema["required"] = [KEY, *schema["required"]]
    return schema


def schema_text(kind: type[Any]) -> str:
    """The schema file of a dataclass."""
    return json.dumps(schema_of(kind), indent=2) + "\n"


def history_table(format_: Format) -> str:
    """The versions of a format, oldest first."""
    rows = [
        f"| {version} | {change.ardx} | {change.what} |"
        for version, change in enumerate(format_.history, start=1)
    ]
    return "\n".join(["| version | since ardx | what changed |", "|---|---|---|", *rows])


def page_text() -> str:
    """The page of all formats."""
    parts = [INTRODUCTION]
    for page in PAGES:
        format_ = page.kind.FORMAT
        title = format_.name.partition(" ")[2].capitalize()
        parts.append(
            f"## {title}\n\n{page.where}\n[Schema]({page.name}.schema.json), version "
            f"{format_.version}.\n\n{history_table(format_)}\n"
        )
    parts.append(
        "## Training checkpoint\n\n`checkpoint.safetensors` beside the weights, from which "
        "`--resume` goes on; its\nmetadata says the version. Without one it is version 1.\n\n"
        f"{history_table(CHECKPOINT_FORMAT)}\n"
    )
    return "\n".join([*parts, OTHERS])


def files() -> dict[Path, str]:
    """Every generated file, below docs/reference/formats."""
    found = {FORMATS / f"{page.name}.schema.json": schema_text(page.kind) for page in PAGES}
    found[FORMATS / "gate.schema.json"] = schema_text(Gate)
    return found | {FORMATS / "versions.md": page_text()}


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
