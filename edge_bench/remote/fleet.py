"""Several hosts at once, and the table of what they gave."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from edge_bench.core.errors import ArdxError, InputError
from edge_bench.core.spec import Report
from edge_bench.files.store import refuse_existing_file
from edge_bench.remote.ssh import Ssh
from edge_bench.report.summary import summarise
from edge_bench.runs.every_backend import report_path

T = TypeVar("T")

HEADER = [
    "host",
    "board",
    "backend",
    "p50 ms",
    "p95 ms",
    "images/s",
    "mJ/image",
    "clean",
    "worst case",
    "fingerprint",
    "throttled",
]


def outputs(out: Path, hosts: list[str], force: bool) -> dict[str, Path]:
    """Where the report of each host goes: `out` for one, files beside it for several.

    Raises:
        InputError: two hosts that one file would be for, or a file that exists.
    """
    if len(hosts) == 1:
        paths = {hosts[0]: out}
    else:
        paths = {host: report_path(out, re.sub(r"[^\w.@+-]+", "_", host)) for host in hosts}
        names = [path.name.casefold() for path in paths.values()]
        if len(set(names)) < len(hosts):
            raise InputError(
                f"--host {' --host '.join(hosts)}: two of these share the report's file "
                f"{max(names, key=names.count)}; give each host once, or a name of its own in "
                "your ssh config"
            )
    for path in paths.values():
        refuse_existing_file(path, force)
    return paths


def on_all(
    hosts: Mapping[str, Ssh], work: Callable[[str], T]
) -> dict[str, T | ArdxError | OSError]:
    """Do the work for every host at once, and give what came of each, an error too.

    Raises:
        KeyboardInterrupt: the user's; the connections are closed, what runs there goes on.
    """

    def caught(host: str) -> T | ArdxError | OSError:
        try:
            return work(host)
        except (ArdxError, OSError) as error:
            return error

    with ThreadPoolExecutor(len(hosts)) as pool:
        futures = {host: pool.submit(caught, host) for host in hosts}
        try:
            return {host: future.result() for host, future in futures.items()}
        except BaseException:
            for ssh in hosts.values():
                ssh.cancel()
            raise


def row(host: str, report: Report) -> list[str]:
    """One line of the table; what is not known is a dash."""
    figures = summarise(report)
    energy = figures.get("energy_mj", {}).get("latency")
    fingerprint, throttled = figures["fingerprint"], figures.get("throttled")
    return [
        host,
        report.device.board or report.device.device,
        figures["backend"],
        f"{figures['latency_ms']['p50']:.3f}",
        f"{figures['latency_ms']['p95']:.3f}",
        f"{figures['images_per_second']:.0f}",
        "-" if energy is None else f"{energy:.4g}",
        _percent(figures["clean_accuracy"]),
        _percent(figures["worst_case_accuracy"]),
        "-" if fingerprint is None else "differs" if fingerprint["differs"] else "same",
        "-" if throttled is None else ", ".join(throttled) or "none",
    ]


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"
