"""``provenance.dsse.json``: the statement and the signatures over it, a DSSE envelope (secure-systems-lab/dsse, v1).

In: the statement's bytes, or the bytes of an envelope. Out: an :class:`Envelope`, or :class:`NotAnEnvelope` with one sentence.
A signature is over the *pre-authentication encoding* of type and payload, so that it can be taken for nothing else. Beside
``keyid`` (the fingerprint, a hint) and ``sig``, each signature has ``public_key``, a line of OpenSSH: a reader who trusts nobody yet
still learns whether it fits, and whose it is. Other tools ignore it.

    >>> pre_authentication("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.canonical import JsonObject, pretty_json
from engine.evidence.signing.public_keys import PublicKey, UnusableKey, decoded, public_key_of

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MOST_SIGNATURES = 20
FIELDS = ("payload", "payloadType", "signatures")
OF_A_SIGNATURE = ("keyid", "sig", "public_key")
_KEYID = re.compile(r"[!-~]{0,200}")  # a fingerprint, an address: no sentence


class NotAnEnvelope(Exception):
    """Why."""


@dataclass(frozen=True, slots=True)
class Signature:
    """``key`` is None where another tool made the signature, which names its key by ``keyid`` alone."""

    keyid: str
    sig: bytes
    key: PublicKey | None

    @property
    def name(self) -> str:
        """For a finding."""
        return self.key.fingerprint if self.key is not None else f"a key called {self.keyid!a:.80}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """``payload``: the bytes that are signed."""

    payload: bytes
    payload_type: str
    signatures: Sequence[Signature]

    @property
    def signed_bytes(self) -> bytes:
        """What each signature is over."""
        return pre_authentication(self.payload_type, self.payload)

    def as_bytes(self) -> bytes:
        """The file."""
        rows = [
            {"keyid": one.keyid, "sig": base64.b64encode(one.sig).decode()}
            | ({"public_key": one.key.openssh} if one.key is not None else {})
            for one in self.signatures
        ]
        payload = base64.b64encode(self.payload).decode()
        return pretty_json({"payload": payload, "payloadType": self.payload_type, "signatures": rows}).encode()


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """PAE of DSSE: both with their lengths, so that no two pairs have the same bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def envelope_of(document: JsonObject) -> Envelope:
    """The envelope in a JSON object. Raises NotAnEnvelope."""
    _refuse_others(document, FIELDS, "it")
    payload, payload_type, rows = (document.get(name) for name in FIELDS)
    if not isinstance(payload, str) or not isinstance(payload_type, str) or not isinstance(rows, list):
        raise NotAnEnvelope("it needs payload, payloadType and signatures")
    if not 1 <= len(rows) <= MOST_SIGNATURES:
        raise NotAnEnvelope(f"it has {len(rows)} signatures, and 1 to {MOST_SIGNATURES} are read")
    try:
        return Envelope(_bytes(payload), payload_type, [_signature(row) for row in rows])
    except UnusableKey as error:
        raise NotAnEnvelope(str(error)) from error


def _signature(row: object) -> Signature:
    if not isinstance(row, dict) or not isinstance(row.get("sig"), str):
        raise NotAnEnvelope("a signature needs sig")
    _refuse_others(row, OF_A_SIGNATURE, "a signature")
    keyid, written = row.get("keyid", ""), row.get("public_key")
    if not isinstance(keyid, str) or not (written is None or isinstance(written, str)):
        raise NotAnEnvelope("keyid and public_key of a signature are texts")
    if not _KEYID.fullmatch(keyid):
        raise NotAnEnvelope(f"the keyid {keyid!a:.80} is not the name of a key")
    key = None if written is None else public_key_of(written)
    if key is not None and key.openssh != written:
        raise NotAnEnvelope(f"the public_key of {key.fingerprint} has more than the key: {written!a:.160}")
    return Signature(keyid, _bytes(row["sig"]), key)


def _refuse_others(values: JsonObject, known: Sequence[str], what: str) -> None:
    """Nobody signs what stands beside payload and signatures: a note there would be anybody's."""
    others = sorted(set(values) - set(known))
    if others:
        raise NotAnEnvelope(f"{what} has {', '.join(f'{name!a:.60}' for name in others[:5])}, which nobody signed")


def _bytes(text: str) -> bytes:
    """DSSE allows both alphabets of base64."""
    return decoded(text.replace("-", "+").replace("_", "/"))
