"""What the signatures of a package are worth to a reader: V23, and the names that level L1 shows.

In: the statement's bytes, the envelope (or none), the keys that the reader trusts (or none), the time; and of a sigstore bundle (or
none) who must have signed. Out: :class:`Signed`. Whoever names keys or an identity to trust asks for a signature: without one by such a
key, or by that identity, the check fails. Whoever does not learns who signed, and no more.

    >>> examine(b"{}", None, None, dt.datetime.now(tz=dt.timezone.utc)).detail
    'unsigned'
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from engine.canonical import JsonObject
from engine.evidence.contents import Answer, Status, answer
from engine.evidence.signing.envelope import PAYLOAD_TYPE, Envelope, NotAnEnvelope, Signature, envelope_of
from engine.evidence.signing.sigstore_bundle import NotBySigner, NotTheBundle, TrustedIdentity, require_over
from engine.evidence.signing.trust import TrustedKey, TrustedKeys

UNSIGNED = "unsigned"
NEEDS_IDENTITY = (
    "a sigstore bundle over this statement, and who signed it is not verified: runspec verify --trust-identity WHO "
    "--trust-issuer URL (pip install 'runspec-engine[sigstore]')"
)
MOST_TRIED = 20  # trusted keys, for a signature that does not name its key by fingerprint: each takes milliseconds


@dataclass(frozen=True, slots=True)
class Signed:
    """``by``: the trusted signers; ``others``: those whose signatures fit, by keys that the reader did not name."""

    answer: Answer
    by: Sequence[str] = ()
    others: Sequence[str] = ()

    @property
    def detail(self) -> str:
        """The finding in words."""
        return self.answer[1]


def examine(statement: bytes, document: JsonObject | None, trust: TrustedKeys | None, now: dt.datetime) -> Signed:
    """Never raises for what is in the document."""
    if document is None:
        if trust is None:
            return Signed(("n/a", UNSIGNED))
        return Signed(("fail", f"{UNSIGNED}, and you asked for a signature by a key in {trust.source}"))
    try:
        envelope = envelope_of(document)
    except NotAnEnvelope as error:
        return Signed(("fail", f"provenance.dsse.json is no envelope of signatures: {error}"))
    problems = _payload(envelope, statement) or _false(envelope, trust)
    if problems:
        return Signed(answer(problems, ""))
    fits = [one.key.fingerprint for one in envelope.signatures if one.key is not None]
    if trust is None:
        return _of_nobody_trusted(envelope, fits)
    return _trusted(envelope, trust, now, fits)


def _payload(envelope: Envelope, statement: bytes) -> list[str]:
    """Why the envelope is about something else than this statement."""
    if envelope.payload_type != PAYLOAD_TYPE:
        return [f"what is signed is {envelope.payload_type!a:.80}, not a statement ({PAYLOAD_TYPE})"]
    if envelope.payload != statement:
        return ["what is signed is another statement than provenance.intoto.json: it is about other files"]
    return []


def _false(envelope: Envelope, trust: TrustedKeys | None) -> list[str]:
    """Signatures that do not fit. One without its key may be anybody's."""
    problems = []
    for one in envelope.signatures:
        if one.key is None:
            continue
        if one.keyid not in ("", one.key.fingerprint):
            problems.append(f"a signature names the key {one.keyid!a:.80} and has another one, {one.key.fingerprint}")
        elif not one.key.signed(envelope.signed_bytes, one.sig):
            owners = [entry.name for entry in (trust.of(one.key) if trust else [])]
            who = owners[0] if owners else one.key.fingerprint
            problems.append(f"the signature does not fit: it is over other bytes, or not by {who}")
    return problems


def _of_nobody_trusted(envelope: Envelope, fits: Sequence[str]) -> Signed:
    unknown = [one.name for one in envelope.signatures if one.key is None]
    names = [f"signed by {name}, which you did not say you trust" for name in fits]
    names += [f"signed by {name}, which is not here: --trust KEYS looks for it" for name in unknown]
    return Signed(("pass" if fits else "n/a", "; ".join(names)), others=fits)


def _trusted(envelope: Envelope, trust: TrustedKeys, now: dt.datetime, fits: Sequence[str]) -> Signed:
    by, problems = [], []
    for one in envelope.signatures:
        entries = _entries(one, envelope, trust)
        refusals = [entry.refusal(now) for entry in entries]
        by += [entry.name for entry, refusal in zip(entries, refusals, strict=True) if refusal is None]
        problems += [
            f"the key of {entry.name} {refusal}" for entry, refusal in zip(entries, refusals, strict=True) if refusal
        ]
        if not entries:
            problems.append(f"signed by {one.name}, which is not in {trust.source}")
    if not by:
        return Signed(answer(problems, ""), others=fits)
    return Signed(
        ("pass", f"signed by {', '.join(dict.fromkeys(by))}, a key that you trust"), tuple(dict.fromkeys(by)), fits
    )


def _entries(one: Signature, envelope: Envelope, trust: TrustedKeys) -> list[TrustedKey]:
    """The trusted keys that made a signature; one without its key is looked for by fingerprint, or among a few."""
    if one.key is not None:
        return trust.of(one.key)
    named = [entry for entry in trust.entries if entry.key.fingerprint == one.keyid]
    candidates = named if named or len(trust.entries) > MOST_TRIED else trust.entries
    return [entry for entry in candidates if entry.key.signed(envelope.signed_bytes, one.sig)]


def examine_bundle(statement: bytes, data: bytes, document: JsonObject | None, trust: TrustedIdentity | None) -> Signed:
    """The same of a sigstore bundle (or none); ``data``: its bytes. What it is about needs no library, who signed it does."""
    if document is None:
        if trust is None:
            return Signed(("n/a", UNSIGNED))
        return Signed(("fail", f"no sigstore bundle, and you asked for a signature by {trust.name}"))
    try:
        require_over(statement, document)
    except NotTheBundle as error:
        return Signed(("fail", f"provenance.sigstore.json is not used: {error}"))
    if trust is None:
        return Signed(("n/a", NEEDS_IDENTITY))
    try:
        signed = trust.signed_bytes(data)
    except NotBySigner as error:
        return Signed(("fail", f"provenance.sigstore.json: {error}"))
    if signed != (PAYLOAD_TYPE, statement):
        return Signed(("fail", "provenance.sigstore.json: what the library verified is another statement"))
    return Signed(("pass", f"signed by {trust.name}, an identity that you trust"), (trust.name,))


def both(by_key: Signed, as_identity: Signed) -> Signed:
    """One answer of the two files: fails where either does, and says nothing of one that nobody made or asked for.

    >>> unsigned, signed = Signed(("n/a", UNSIGNED)), Signed(("pass", "signed by ann"), ("ann",))
    >>> both(unsigned, signed).answer, both(unsigned, unsigned).answer
    (('pass', 'signed by ann'), ('n/a', 'unsigned'))
    """
    said = [one for one in (by_key, as_identity) if one.answer != ("n/a", UNSIGNED)] or [by_key]
    statuses = [one.answer[0] for one in said]
    status: Status = "fail" if "fail" in statuses else "pass" if "pass" in statuses else "n/a"
    words = [one.detail for one in said if status != "fail" or one.answer[0] == "fail"]
    signers = () if status == "fail" else (*by_key.by, *as_identity.by)
    return Signed((status, "; ".join(words)), signers, by_key.others)
