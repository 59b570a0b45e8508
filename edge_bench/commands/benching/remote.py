"""`bench --host` for people: what is forwarded, where reports go, tables and verdicts."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import typer

from edge_bench.backends import BACKENDS
from edge_bench.commands.benching.asked import Asked
from edge_bench.commands.benching.every_backend import summarise_all, tell_all
from edge_bench.commands.gate import verdict
from edge_bench.core.errors import (
    EXIT_ENVIRONMENT,
    EXIT_GATE_FAILED,
    EXIT_PASS,
    ArdxError,
    CapabilityError,
    os_sentence,
)
from edge_bench.core.gate import Gate
from edge_bench.core.spec import Report
from edge_bench.files.external_data import model_files
from edge_bench.files.store import identity, refuse_existing_file
from edge_bench.policy.baseline import Baseline
from edge_bench.policy.gate import check
from edge_bench.remote.client import Client
from edge_bench.remote.fleet import HEADER, on_all, outputs, row
from edge_bench.remote.home import Expected, Returned, bring_home
from edge_bench.remote.layout import Job
from edge_bench.remote.parcel import make_parcel
from edge_bench.remote.ssh import Ssh
from edge_bench.report.summary import summarise
from edge_bench.runs.every_backend import ALL, report_path
from edge_bench.terminal.console import print_json, print_table, progress, say, say_aside
from edge_bench.terminal.interrupts import told

STAY_HERE = frozenset(
    (
        "host",
        "wheels",
        "remote_python",
        "ssh_config",
        "sets",
        "signers",
        "out",
        "force",
        "json_summary",
    )
)
"""Options of `bench` that are about this side; all others travel as they were given."""
PYTHON = "python3"


def forwarded(context: typer.Context) -> tuple[str, ...]:
    """The options that the user gave and that are the board's, as a command line has them."""
    words: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        local = option.param_type_name == "argument" or name in STAY_HERE
        if local or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
        elif isinstance(value, list | tuple):
            words += [f"{option.opts[0]}={one}" for one in value]
        else:
            words.append(f"{option.opts[0]}={value}")
    return tuple(words)


def bench_remote(
    context: typer.Context, asked: Asked, old: Baseline | None
) -> tuple[Report, dict[str, Any], int]:
    """Benchmark on each host; of one, give what a run here gives: report, summary, exit code.

    `old` is the baseline of the bundle.

    Raises:
        ArdxError: of the one host.
        typer.Exit: there are several hosts, and all was said; or the user interrupted.
    """
    given = context.params
    out, force, json_summary = Path(given["out"]), given["force"], given["json_summary"]
    config = given["ssh_config"] and Path(given["ssh_config"])
    hosts = {host: Ssh(host, config) for host in given["host"]}
    paths = outputs(out, given["host"], force)
    if given["backend"] == ALL:
        for file in paths.values():
            for name in (*BACKENDS, ALL):
                refuse_existing_file(report_path(file, name), force)
    results = _bench_hosts(given, hosts, paths, asked, forwarded(context))
    if len(hosts) > 1:
        raise typer.Exit(_tell_fleet(results, asked.parts.gate, old, paths, json_summary))
    (result,) = results.values()
    if isinstance(result, Exception):
        raise result
    if result.outcome:
        return tell_all(result.outcome, out, json_summary)
    assert result.report is not None
    return result.report, summarise(result.report) | {"report": str(out)}, result.code


def _bench_hosts(
    given: dict[str, Any],
    hosts: dict[str, Ssh],
    paths: dict[str, Path],
    asked: Asked,
    options: tuple[str, ...],
) -> dict[str, Returned | ArdxError | OSError]:
    """Pack once, and do all of each host; `given` are the parameters of `bench`.

    Paths among them may be text: that depends on typer's version.
    """
    model, wheels = Path(given["model"]), given["wheels"] and Path(given["wheels"])
    job = Job(python=given["remote_python"] or PYTHON, backend=given["backend"], options=options)
    sha256, _ = identity(model_files(asked.parts.model))
    more = asked.options.most_timed_bytes * (len(BACKENDS) if job.backend == ALL else 1)
    with tempfile.TemporaryDirectory(prefix="ardx-") as folder:
        with progress("bundle") as report_progress:
            parcel = make_parcel(Path(folder), model, asked.parts, job, wheels, report_progress)

        def work(host: str) -> Returned:
            say = partial(_say, f"{host}: " if len(hosts) > 1 else "")
            expected = Expected(
                path=asked.path,
                sha256=sha256,
                out=paths[host],
                every_backend=job.backend == ALL,
                force=given["force"],
            )
            client = Client(hosts[host], parcel, str(model), say, more)
            return _bench_one(host, client, expected)

        try:
            return on_all(hosts, work)
        except KeyboardInterrupt as error:
            _say(
                "interrupted: ",
                f"what began on {', '.join(hosts)} goes on there; the same command listens to it "
                "again, or fetches its report",
            )
            raise typer.Exit(told(error, None)[1]) from None


def _bench_one(host: str, client: Client, expected: Expected) -> Returned:
    """All of one host: run there, write here, clean up there."""
    fetched = client.run()
    try:
        returned = bring_home(host, fetched, expected)
    except CapabilityError:
        _clean(client)  # Of no use to the same command either.
        raise
    # Only now: a report that could not be written here is still there for the same command.
    _clean(client)
    for error in fetched.errors if returned else fetched.errors[:-1]:
        _say("error: ", f"{host}: {error}")
    if returned is None:
        raise client.failure(fetched)
    return returned


def _clean(client: Client) -> None:
    try:
        client.clean()
    except ArdxError as error:
        _say("warning: ", f"{error}; what ran there was not removed")


def _say(prefix: str, line: str) -> None:
    say_aside(f"{prefix}{line}")


def _tell_fleet(
    results: dict[str, Returned | ArdxError | OSError],
    gate: Gate | None,
    old: Baseline | None,
    paths: dict[str, Path],
    json_summary: bool,
) -> int:
    """The table, verdicts and errors, or their JSON; gives the code of the first host that failed.

    Errors go to stderr in both cases.
    """
    rows: list[list[str]] = []
    summaries: dict[str, dict[str, Any]] = {}
    for host, result in results.items():
        summary: dict[str, Any] = {"exit_code": 0}
        try:
            if isinstance(result, Exception):
                raise result
            summary |= {"exit_code": result.code}
            summary |= _figures(result, paths[host])
            if result.report:
                rows.append(row(host, result.report))
                if gate:
                    violations = check(result.report, gate, old)
                    summary["gate"] = verdict(violations)
                    summary["exit_code"] = EXIT_GATE_FAILED if violations else result.code
        except (ArdxError, OSError) as error:
            sentence = str(error)
            if isinstance(error, OSError):
                sentence = f"{host}: {os_sentence(error)}"
            _say("error: ", sentence)
            code = error.exit_code if isinstance(error, ArdxError) else EXIT_ENVIRONMENT
            summary |= {"error": sentence, "exit_code": code}
        summaries[host] = summary
    if json_summary:
        print_json({"hosts": summaries})
    else:
        if rows:
            print_table("fleet", HEADER, rows)
            say(f"reports: {', '.join(str(paths[cells[0]]) for cells in rows)}")
        _print_verdicts(summaries)
    return next((s["exit_code"] for s in summaries.values() if s["exit_code"]), EXIT_PASS)


def _figures(result: Returned, out: Path) -> dict[str, Any]:
    if result.outcome:
        return summarise_all(result.outcome, out)
    assert result.report is not None
    return summarise(result.report) | {"report": str(out)}


def _print_verdicts(summaries: dict[str, dict[str, Any]]) -> None:
    for host, summary in summaries.items():
        if "gate" in summary:
            for violation in summary["gate"]["violations"]:
                say(f"gate: {host}: {violation['sentence']}")
            say(f"gate: {host}: {'passed' if summary['gate']['passed'] else 'failed'}")
