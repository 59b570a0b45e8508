"""A folder of pictures that is made one by one, goes on after a kill, and appears at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_bench.files.locks import hold
from edge_bench.files.store import atomic_file, refuse_folder, sync_folder


@contextmanager
def begun_pictures(out: Path, plan: str, marker: str, *, force: bool) -> Iterator[Path]:
    """Yield the hidden folder to fill, which becomes `out` when the block has succeeded.

    What an earlier run of the same plan left there is in it still; another plan begins anew.

    Args:
        plan: all that decides the pictures, as text.
        marker: the name of the file by which an earlier output is known; see `refuse_folder`.

    Raises:
        InputError: `out` exists without `force`, is nothing of ours, or is being written.
    """
    refuse_folder(out, force, marker)
    begun = out.with_name(f".{out.name}.pictures")
    folder, retired, planned = begun / "made", begun / "retired", begun / "plan"
    lock = hold(
        begun / "lock",
        f"{out}: another process is writing these pictures; wait for it to end, or choose another "
        "--out",
    )
    try:
        if retired.exists() and not out.exists():
            retired.replace(out)  # A run was killed between two moves.
        shutil.rmtree(retired, ignore_errors=True)
        # A damaged plan is another one.
        if not planned.is_file() or planned.read_text(encoding="utf-8", errors="replace") != plan:
            shutil.rmtree(folder, ignore_errors=True)
            with atomic_file(planned, force=True) as partial:
                partial.write_text(plan, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        yield folder
        # Nothing that appeared there meanwhile is replaced without --force.
        refuse_folder(out, force, marker)
        if out.exists():
            out.replace(retired)
        folder.replace(out)
        sync_folder(out.parent)
        shutil.rmtree(begun)
    finally:
        lock.close()
