"""What a device's environment is made of, as CycloneDX 1.6 in JSON, for a bundle to carry.

The distributions that a device needs, with what they need in turn, as they are installed where the
bundle is packed. Without a time or a number of its own: the same environment gives the same bytes.
Written by hand, since a board packs bundles too and has no library for it; tests hold it to the
standard's schema.
"""

from __future__ import annotations

import json
import re
from importlib import metadata
from typing import Any

from edge_bench.core.version import __version__

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
EXPRESSION, LICENSE = "License-Expression", "License"
LONGEST_LICENSE = 100
"""Some distributions have the whole text of their licence where its name belongs."""


def sbom(needed: list[str], artifact_sha256: str, artifact_name: str) -> str:
    """The text of the bill for an artefact whose device needs the distributions `needed`."""
    found = _with_dependencies(needed)
    artifact = {
        "type": "machine-learning-model",
        "bom-ref": "artefact",
        "name": artifact_name,
        "hashes": [{"alg": "SHA-256", "content": artifact_sha256}],
    }
    ardx = {"type": "application", "name": "ardx", "version": __version__}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": artifact, "tools": {"components": [ardx]}},
        "components": [_component(found[name]) for name in sorted(found)],
        "dependencies": [
            {"ref": "artefact", "dependsOn": [_purl(found[_plain(n)]) for n in sorted(needed)]},
            *(
                {
                    "ref": _purl(found[name]),
                    "dependsOn": [_purl(found[n]) for n in _requires(found[name]) if n in found],
                }
                for name in sorted(found)
            ),
        ],
    }
    return json.dumps(bill, indent=2) + "\n"


def _with_dependencies(needed: list[str]) -> dict[str, metadata.Distribution]:
    """Distributions by plain name, as far as they are installed."""
    found: dict[str, metadata.Distribution] = {}
    pending = list(needed)
    while pending:
        name = _plain(pending.pop())
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # For another system or Python.
        pending += _requires(found[name])
    return found


def _requires(distribution: metadata.Distribution) -> list[str]:
    """Plain names of what it needs without any extra, sorted."""
    names = set()
    for requirement in distribution.requires or ():
        match = NAME.match(requirement)
        if match and "extra ==" not in requirement.partition(";")[2]:
            names.add(_plain(match[0]))
    return sorted(names)


def _component(distribution: metadata.Distribution) -> dict[str, Any]:
    purl = _purl(distribution)
    component = {
        "type": "library",
        "bom-ref": purl,
        "name": distribution.metadata["Name"],
        "version": distribution.version,
        "purl": purl,
    }
    told = distribution.metadata
    if EXPRESSION in told:
        return component | {"licenses": [{"expression": told[EXPRESSION]}]}
    if LICENSE in told and "\n" not in (name := told[LICENSE]) and len(name) < LONGEST_LICENSE:
        return component | {"licenses": [{"license": {"name": name}}]}
    return component


def _purl(distribution: metadata.Distribution) -> str:
    return f"pkg:pypi/{_plain(distribution.metadata['Name'])}@{distribution.version}"


def _plain(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
