"""Files of GitHub's and GitLab's, held against the schemas that check-jsonschema brings."""

from __future__ import annotations

from pathlib import Path

from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner, Result


def check(path: Path, schema: str) -> Result:
    """Hold a file against a schema of those that are vendored; no network."""
    return CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{schema}", str(path)])
