"""On the board: the process that no connection can end. Sees to the packages, then benchmarks.

Its stderr is the job's log. What it leaves is `exit.json`; a process that was killed leaves none.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_bench.core.errors import EXIT_ENVIRONMENT, ArdxError, CapabilityError, os_sentence
from edge_bench.remote import environment
from edge_bench.remote.layout import BUNDLE, REPORT, Job, write_exit


def settle(folder: Path, job: Job) -> None:
    """Go on in this process, or become one whose Python has the packages.

    Raises:
        CapabilityError: no such Python can be made.
    """
    lacking = environment.missing(job.backend)
    if not lacking:
        return
    if sys.prefix != sys.base_prefix and Path(sys.prefix).parent == folder.parent:
        raise CapabilityError(f"{sys.prefix} lacks {' '.join(lacking)}; remove that folder there")
    made = environment.environment_of(folder.parent, job.backend)
    if not environment.is_ready(made):
        environment.make(made, folder, job.backend, job.python)
    python = str(made / "bin" / "python")
    os.execv(python, [python, "-m", "edge_bench.job", str(folder)])  # noqa: S606


def bench(folder: Path, job: Job) -> int:
    """`ardx bench` in this process: its memory is what the report tells. Gives the exit code."""
    from edge_bench.cli import app

    # --force: after a power cut the report of this very job may be there already.
    arguments = ["bench", BUNDLE, "--out", str(folder / REPORT), "--force", *job.options]
    try:
        app(arguments, prog_name="ardx")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main(name: str) -> None:
    """Run the job of a folder and tell how it ended."""
    folder = Path(name)
    code, error = EXIT_ENVIRONMENT, None
    try:
        job = Job.read(folder)
        settle(folder, job)
        code = bench(folder, job)
    except ArdxError as mistake:
        code, error = mistake.exit_code, str(mistake)
    except OSError as mistake:
        # A disk so full that not even the log could take the sentence.
        error = os_sentence(mistake, name)
    except Exception as mistake:
        error = f"{type(mistake).__name__}: {mistake}; this is a mistake in ardx"
        raise
    finally:
        write_exit(folder, code, error)


if __name__ == "__main__":
    main(sys.argv[1])
