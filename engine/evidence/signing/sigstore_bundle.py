"""``provenance.sigstore.json``: a sigstore bundle (version 0.3) that has the statement in its DSSE envelope, read with the standard library.

In: the bundle as JSON, the statement's bytes. Out: nothing, or :class:`NotTheBundle` with one sentence. Whether the signature, the
certificate and the transparency log's entry hold is for the library to say (:class:`TrustedIdentity`); what the bundle is about is said here.

    >>> require_over(b"{}", {"mediaType": "text/plain"})
    Traceback (most recent call last):
    engine.evidence.signing.sigstore_bundle.NotTheBundle: it is no sigstore bundle of version 0.3: its mediaType is 'text/plain'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.canonical import JsonObject
from engine.evidence.signing.envelope import PAYLOAD_TYPE, Envelope, NotAnEnvelope, envelope_of

MEDIA_TYPES = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
)


class NotTheBundle(Exception):
    """Why it is no bundle, or one of something else."""


class NotBySigner(Exception):
    """Why a bundle is not a signature by the identity that was asked for."""


class SigstoreError(Exception):
    """Why there is no signature, or no trust root to verify one with; ``kind`` says where it failed."""

    def __init__(self, kind: Literal["trust root", "network", "instance", "token", "expired"], why: str) -> None:
        super().__init__(why)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class TrustedIdentity:
    """Who must have signed: ``identity`` (an address, or the URI of a workflow) as ``issuer`` (a URL) knows it.

    ``signed_bytes``: a bundle's bytes -> (payload type, payload), by the library and the trust root that the reader
    named; raises :class:`NotBySigner`.
    """

    identity: str
    issuer: str
    signed_bytes: Callable[[bytes], tuple[str, bytes]]

    @property
    def name(self) -> str:
        """For a finding."""
        return f"{self.identity} (by {self.issuer})"


def require_over(statement: bytes, document: JsonObject) -> None:
    """Raises NotTheBundle unless this is a bundle over exactly this statement."""
    media_type = document.get("mediaType")
    if media_type not in MEDIA_TYPES:
        raise NotTheBundle(f"it is no sigstore bundle of version 0.3: its mediaType is {media_type!a:.80}")
    material = document.get("verificationMaterial")
    if not isinstance(material, dict) or "certificate" not in material or not material.get("tlogEntries"):
        raise NotTheBundle("it has no certificate, or no entry of a transparency log")
    require_statement(_envelope(document), statement)


def require_statement(envelope: Envelope, statement: bytes) -> None:
    """Raises NotTheBundle where something else was signed."""
    if envelope.payload_type != PAYLOAD_TYPE:
        raise NotTheBundle(f"what is signed is {envelope.payload_type!a:.80}, not a statement ({PAYLOAD_TYPE})")
    if envelope.payload != statement:
        raise NotTheBundle("what is signed is another statement than provenance.intoto.json: it is about other files")


def _envelope(document: JsonObject) -> Envelope:
    inner = document.get("dsseEnvelope")
    if not isinstance(inner, dict):
        raise NotTheBundle("it has no DSSE envelope: a signature over a file's digest names no statement")
    try:
        envelope = envelope_of(inner)
    except NotAnEnvelope as error:
        raise NotTheBundle(f"its envelope is none: {error}") from error
    if len(envelope.signatures) != 1:
        raise NotTheBundle(f"its envelope has {len(envelope.signatures)} signatures, and a bundle's has one")
    return envelope
