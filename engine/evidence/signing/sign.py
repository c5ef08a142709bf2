"""Signing evidence: one signature more in ``provenance.dsse.json`` of a folder or a zip.

In: the folder or zip, a key. Out: :class:`Signing`. What does not verify is not signed. The zip afterwards is what ``package`` writes from
the same folder with the same signatures. Signing twice with one key changes nothing.

    sign(Path("submission/quickstart_20260102_1a2b3c4.zip"), read_signing_key(path))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.canonical import write_atomic
from engine.errors import InputInvalid, RunFailed, VerificationFailed
from engine.evidence.about import SIGNATURES, STATEMENT
from engine.evidence.bundle import Bundle, read_bundle
from engine.evidence.contents import Evidence
from engine.evidence.signing.envelope import PAYLOAD_TYPE, Envelope, Signature, envelope_of, pre_authentication
from engine.evidence.signing.private_keys import SigningKey
from engine.evidence.signing.public_keys import PublicKey
from engine.evidence.verify import verify
from engine.evidence.zipped.packed import zip_bytes
from engine.os_errors import hint_for


@dataclass(frozen=True, slots=True)
class Signing:
    """``fresh``: whether a signature was added; ``signers``: all keys that the evidence is signed by now."""

    key: PublicKey
    fresh: bool
    signers: tuple[str, ...]


def sign(path: Path, key: SigningKey) -> Signing:
    """Add the signature. Raises U152 (cannot be signed), U153 (not verified), U154 (cannot be written)."""
    bundle = signable(path)
    envelope, fresh = _with_signature(bundle, key)
    if fresh:
        write_signature(path, bundle, SIGNATURES, envelope.as_bytes())
    return Signing(key.public, fresh, tuple(one.name for one in envelope.signatures))


def signable(path: Path) -> Bundle:
    """The files of evidence that verifies and has a statement. Raises U152, U153."""
    verification = verify(path)  # V00, X322
    if not verification.ok:
        first = verification.failed[0]
        raise VerificationFailed(
            "U153", f"{path} is not signed, because it does not verify: {first.id} {first.title}: {first.detail}",
            hint=f"all checks: runspec verify {path}",
        )  # fmt: skip
    bundle = read_bundle(path)
    if STATEMENT not in bundle.files:
        raise InputInvalid("U152", f"{path} has no {STATEMENT}, which a signature is over: it is evidence of an older version",
                           hint="runspec evidence SPEC renders it again")  # fmt: skip
    return bundle


def _with_signature(bundle: Bundle, key: SigningKey) -> tuple[Envelope, bool]:
    """The envelope that is there with one signature more, where this key's is not there yet."""
    statement = bundle.files[STATEMENT]
    present: tuple[Signature, ...] = ()
    if SIGNATURES in bundle.files:
        present = tuple(envelope_of(Evidence(bundle).json(SIGNATURES)).signatures)
    if any(one.key == key.public for one in present):
        return Envelope(statement, PAYLOAD_TYPE, present), False
    made = Signature(key.public.fingerprint, key.sign(pre_authentication(PAYLOAD_TYPE, statement)), key.public)
    return Envelope(statement, PAYLOAD_TYPE, (*present, made)), True


def write_signature(path: Path, bundle: Bundle, name: str, data: bytes) -> None:
    """Into the folder, or the zip as ``package`` writes it. Raises U154."""
    try:
        if bundle.kind == "folder":
            write_atomic(path / name, data)
        else:
            run_version = str(Evidence(bundle).record["run_version"])
            write_atomic(path, zip_bytes({**bundle.files, name: data}, run_version))
    except OSError as error:
        raise RunFailed("U154", f"the signature cannot be written: {error.filename or path}: {error.strerror or error}",
                        hint=hint_for(error.errno) or "free some disk space or give this user write permission there") from error  # fmt: skip
