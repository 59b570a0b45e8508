"""The commands `attest` and `verify`: evidence that others can check without ardx."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edge_bench.commands.console import print_json, say
from edge_bench.commands.flags import Force, Json, command
from edge_bench.commands.gate import EXITS
from edge_bench.commands.gate_policy import PolicyFlags, judged, policy_of

SIGNERS_HELP = "File of allowed signers, as ssh-keygen(1) has it."


@dataclass(frozen=True, kw_only=True)
class AttestFlags:
    """The options of `attest`."""

    report: Annotated[Path, typer.Argument(help="Report written by bench.")]
    policy: Annotated[Path, typer.Option(help="TOML file of conditions in tiers.")]
    out: Annotated[Path, typer.Option(help="Statement to write (.intoto.json).")]
    baseline: Annotated[
        Path | None, typer.Option(help="Earlier report, or baseline, to compare with.")
    ] = None
    artifact: Annotated[
        Path | None, typer.Option(help="The file that ships, which the report must be of.")
    ] = None
    key: Annotated[
        Path | None, typer.Option("--sign", help="SSH key that signs it, into a .sig beside it.")
    ] = None
    force: Force = False


def run_attest(flags: AttestFlags) -> None:
    """Write a verdict as an in-toto statement, signed by an SSH key; exits as `gate` does.

    Example: ardx attest report.json --policy gate.toml --out verdict.intoto.json --sign id_ed25519
    """
    from edge_bench.core.errors import InputError
    from edge_bench.files.report_file import read_report
    from edge_bench.files.store import atomic_file, refuse_existing_file, sha256_file
    from edge_bench.policy.baseline import read_baseline
    from edge_bench.signing.openssh import sign, signature_path
    from edge_bench.signing.statement import Subject, statement, to_text

    refuse_existing_file(flags.out, flags.force)
    if flags.key is not None:
        refuse_existing_file(signature_path(flags.out), flags.force)
    report = read_report(flags.report)
    policy = policy_of(PolicyFlags(policy=flags.policy), {})
    baseline = read_baseline(flags.baseline) if flags.baseline else None
    verdict = judged(report, policy, baseline, flags.artifact)
    text = to_text(
        statement(
            report,
            verdict,
            report_file=Subject(name=flags.report.name, sha256=sha256_file(flags.report)),
            policy_file=Subject(name=flags.policy.name, sha256=sha256_file(flags.policy)),
        )
    )
    with atomic_file(flags.out, flags.force) as partial:
        partial.write_text(text, encoding="utf-8")
    told = f"{flags.out}: {len(verdict.outcomes)} claims, {verdict.status}"
    if flags.key is not None:
        try:
            told += f"; signed in {sign(flags.out, flags.key, flags.force)}"
        except InputError:
            flags.out.unlink()  # What was to be signed and is not would be taken for evidence.
            raise
    say(told)
    if code := EXITS[verdict.status]:
        raise typer.Exit(code)


attest = command("attest", AttestFlags, run_attest)


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """The options of `verify`."""

    file: Annotated[Path, typer.Argument(help="Statement of attest, or a bundle.")]
    signers: Annotated[Path, typer.Option(help=SIGNERS_HELP)]
    subject: Annotated[
        list[Path] | None, typer.Option(help="File that the statement must be about.")
    ] = None
    json_summary: Json = False


def run_verify(flags: VerifyFlags) -> None:
    """Who signed a statement or a bundle, and whether it is about the files that are here.

    Example: ardx verify verdict.intoto.json --signers allowed_signers --subject student-int8.onnx
    """
    from edge_bench.files.store import require_file
    from edge_bench.signing.openssh import verify
    from edge_bench.signing.statement import read_subjects, require_subject

    signer = verify(flags.file, flags.signers)
    told = {}
    if flags.subject:
        subjects = read_subjects(flags.file)
        for path in flags.subject:
            require_file(path, "a file that the statement is about")
            told[str(path)] = require_subject(path, subjects, flags.file)
    if flags.json_summary:
        print_json({"signer": signer, "subjects": told})
        return
    say(f"{flags.file}: signed by {signer}")
    for given, name in told.items():
        say(f"{given}: is {name}, which it is about")


verify_command = command("verify", VerifyFlags, run_verify)
