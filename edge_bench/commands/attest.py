"""The commands `attest` and `verify`: a verdict that can be handed on, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_bench.commands.gate import EXITS
from edge_bench.commands.gate_policy import PolicyFlags, judged, policy_of
from edge_bench.core.errors import EXIT_GATE_FAILED, InputError
from edge_bench.terminal.console import print_json, say
from edge_bench.terminal.flags import Force, Json, command

if TYPE_CHECKING:
    from edge_bench.signing.openssh import Signer

Key = Annotated[
    Path | None,
    typer.Option(
        help="Sign with this key of OpenSSH, by ssh-keygen, which asks for its passphrase; a "
        "public key where an agent holds its private half."
    ),
]


@dataclass(frozen=True, kw_only=True)
class AttestFlags:
    """The options of `attest`."""

    report: Annotated[Path, typer.Argument(help="Report written by bench.")]
    policy: Annotated[
        Path, typer.Option(help="TOML file of conditions in tiers; doubts count, too.")
    ]
    out: Annotated[Path, typer.Option(help="Statement to write.")] = Path("verdict.intoto.json")
    sign: Key = None
    baseline: Annotated[
        Path | None, typer.Option(help="Earlier report, or baseline, to compare with.")
    ] = None
    artifact: Annotated[
        Path | None,
        typer.Option(help="The file that ships, or its bundle, which the report must be of."),
    ] = None
    force: Force = False
    json_summary: Json = False


def run_attest(flags: AttestFlags) -> None:
    """Write the verdict on a report as an in-toto statement; ends with the code of gate.

    Example: ardx attest report.json --policy gate.toml --out verdict.intoto.json

    Example: ardx attest report.json --policy gate.toml --sign ~/.ssh/id_ed25519
    """
    from edge_bench.files.report_file import read_report
    from edge_bench.files.store import refuse_existing_file, refuse_read, sha256_file
    from edge_bench.policy.baseline import read_baseline
    from edge_bench.signing.openssh import require_key, signature_path
    from edge_bench.signing.statement import Subject, statement, to_text

    read = (flags.report, flags.policy, flags.baseline, flags.artifact, flags.sign)
    refuse_read("--out", flags.out, [path for path in read if path is not None])
    refuse_existing_file(flags.out, flags.force)
    if flags.sign is not None:
        require_key(flags.sign)
        refuse_existing_file(signature_path(flags.out), flags.force)
    policy, report = policy_of(PolicyFlags(policy=flags.policy), {}), read_report(flags.report)
    baseline = read_baseline(flags.baseline) if flags.baseline else None
    verdict = judged(report, policy, baseline, flags.artifact)

    def named(path: Path) -> Subject:
        return Subject(name=path.name, sha256=sha256_file(path))

    made = statement(
        report,
        verdict,
        report_file=named(flags.report),
        policy_file=named(flags.policy),
        baseline_file=named(flags.baseline) if flags.baseline else None,
    )
    signature = _write(flags, to_text(made))
    if flags.json_summary:
        summary: dict[str, Any] = {"statement": str(flags.out), "status": verdict.status}
        print_json(summary | {"signature": signature and str(signature)})
    else:
        told = f"{flags.out}: {len(verdict.outcomes)} claims, {verdict.status}"
        say(told + (f"; signed in {signature}" if signature else ""))
    if code := EXITS[verdict.status]:
        raise typer.Exit(code)


def _write(flags: AttestFlags, text: str) -> Path | None:
    """Write the statement and its signature, neither where it cannot be signed."""
    from edge_bench.files.store import atomic_file
    from edge_bench.signing.openssh import signature_of, write_signature

    signature = None
    with atomic_file(flags.out, flags.force) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
        if flags.sign is not None:
            signature = signature_of(partial, flags.sign)
    if signature is None:
        return None
    return write_signature(flags.out, signature, flags.force)


@dataclass(frozen=True, kw_only=True)
class VerifyFlags:
    """The options of `verify`."""

    file: Annotated[Path, typer.Argument(help="Statement of attest, or a bundle (.ardx).")]
    signers: Annotated[
        Path, typer.Option(help="Allowed signers, as ssh-keygen has them: NAME KEYTYPE KEY.")
    ]
    subject: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file that the statement must be about: the artefact (or its bundle), the "
            "report."
        ),
    ] = None
    json_summary: Json = False


def run_verify(flags: VerifyFlags) -> None:
    """Who signed a statement or bundle, and is it about these files; exit 1: not 'passed'.

    Example: ardx verify verdict.intoto.json --signers allowed_signers --subject student.onnx

    Example: ardx verify student.ardx --signers allowed_signers
    """
    from edge_bench.files.bundle import is_bundle
    from edge_bench.signing.openssh import verify

    signer = verify(flags.file, flags.signers)
    if not is_bundle(flags.file):
        _verify_statement(flags, signer)
        return
    if flags.subject:
        raise InputError(
            f"--subject: {flags.file} is a bundle, which has no subjects; leave it out"
        )
    if flags.json_summary:
        print_json({"file": str(flags.file), "signer": signer.identity, "key": signer.key})
    else:
        say(f"{flags.file}: signed by {signer}")


def _verify_statement(flags: VerifyFlags, signer: Signer) -> None:
    from edge_bench.files.store import require_file
    from edge_bench.policy.outcome import PASSED
    from edge_bench.signing.statement import read_statement, require_subject

    evidence, told = read_statement(flags.file), {}
    for file in flags.subject or []:
        require_file(file, "a file that the statement is about")
        told[str(file)] = require_subject(file, evidence.subjects, flags.file)
    unseen = [subject for subject in evidence.subjects if subject.name not in told.values()]
    if flags.json_summary:
        summary: dict[str, Any] = {"file": str(flags.file), "signer": signer.identity}
        summary |= {"key": signer.key, "verdict": evidence.status, "failed": evidence.failed}
        summary |= {"subjects": told}
        print_json(summary | {"not_compared": [subject.name for subject in unseen]})
    else:
        say(f"{flags.file}: signed by {signer}")
        for given, name in told.items():
            say(f"{given}: is {name}, which it is about")
        for subject in unseen:
            say(f"not compared: {subject.name}, sha256 {subject.sha256}; give --subject FILE")
        for condition in evidence.failed:
            say(f"did not pass: {condition}")
        say(f"verdict: {evidence.status}")
    if evidence.status != PASSED:
        raise typer.Exit(EXIT_GATE_FAILED)


attest = command("attest", AttestFlags, run_attest)
verify_command = command("verify", VerifyFlags, run_verify)
