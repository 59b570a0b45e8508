"""The commands `attest` and `verify`: a verdict that can be handed on, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_bench.commands.console import print_json
from edge_bench.commands.flags import Force, Json, command
from edge_bench.commands.gate import EXITS
from edge_bench.commands.gate_policy import PolicyFlags, judged, policy_of
from edge_bench.core.errors import EXIT_GATE_FAILED, InputError

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
        Path | None, typer.Option(help="The file that ships, which the report must be of.")
    ] = None
    force: Force = False
    json_summary: Json = False


def run_attest(flags: AttestFlags) -> None:
    """Write the verdict on a report as an in-toto statement; ends with the code of gate.

    Example: ardx attest report.json --policy gate.toml --out verdict.intoto.json

    Example: ardx attest report.json --policy gate.toml --sign ~/.ssh/id_ed25519
    """
    from edge_bench.files.report_file import read_report
    from edge_bench.files.store import refuse_existing_file, to_json
    from edge_bench.policy.baseline import read_baseline
    from edge_bench.policy.told import lines
    from edge_bench.signing.openssh import require_key, signature_path
    from edge_bench.signing.statement import Named, statement

    refuse_existing_file(flags.out, flags.force)
    if flags.sign is not None:
        require_key(flags.sign)
        refuse_existing_file(signature_path(flags.out), flags.force)
    policy, report = policy_of(PolicyFlags(policy=flags.policy), {}), read_report(flags.report)
    baseline = read_baseline(flags.baseline) if flags.baseline else None
    verdict = judged(report, policy, baseline, flags.artifact)
    configuration = tuple(Named.of(path) for path in (flags.policy, flags.baseline) if path)
    made = statement(report, verdict, Named.of(flags.report), configuration)
    signature = _write(flags, to_json(made) + "\n")
    if flags.json_summary:
        summary: dict[str, Any] = {"statement": str(flags.out), "status": verdict.status}
        print_json(summary | {"signature": signature and str(signature)})
    else:
        print(*lines(verdict), sep="\n")
        print(f"statement: {flags.out}" + (f", signed in {signature}" if signature else ""))
    if code := EXITS[verdict.status]:
        raise typer.Exit(code)


def _write(flags: AttestFlags, text: str) -> Path | None:
    """Write the statement and its signature, neither where it cannot be signed."""
    from edge_bench.files.store import atomic_file
    from edge_bench.signing.openssh import sign, write_signature

    signature = None
    with atomic_file(flags.out, flags.force) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
        if flags.sign is not None:
            signature = sign(partial, flags.sign)
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
        typer.Option(help="A file that the statement must be about: the artefact, the report."),
    ] = None
    json_summary: Json = False


def run_verify(flags: VerifyFlags) -> None:
    """Who signed a statement or bundle, and is it about these files; exit 1: it says 'failed'.

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
        print_json({"file": str(flags.file), "signed_by": signer.identity, "key": signer.key})
    else:
        print(f"{flags.file}: signed by {signer}")


def _verify_statement(flags: VerifyFlags, signer: Signer) -> None:
    from edge_bench.signing.statement import FAILURE, match_subjects, read_statement

    evidence = read_statement(flags.file)
    matched = match_subjects(flags.file, evidence, flags.subject or [])
    seen = {subject for _, subject in matched}
    unseen = [subject for subject in evidence.subjects if subject not in seen]
    if flags.json_summary:
        summary: dict[str, Any] = {"file": str(flags.file), "signed_by": signer.identity}
        summary |= {"key": signer.key, "result": evidence.result, "failed": list(evidence.failed)}
        summary |= {"subjects": {str(file): subject.sha256 for file, subject in matched}}
        print_json(summary | {"not_compared": [subject.name for subject in unseen]})
    else:
        print(f"{flags.file}: signed by {signer}")
        for file, subject in matched:
            print(f"{file}: is the {subject.name} that it is about")
        for subject in unseen:
            print(f"not compared: {subject.name}, sha256 {subject.sha256}; give --subject FILE")
        for condition in evidence.failed:
            print(f"did not pass: {condition}")
        print(f"result: {evidence.result}")
    if evidence.result == FAILURE:
        raise typer.Exit(EXIT_GATE_FAILED)


attest = command("attest", AttestFlags, run_attest)
verify = command("verify", VerifyFlags, run_verify)
