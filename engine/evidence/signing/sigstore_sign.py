"""Signing as somebody (sigstore): who signs, by which instance, and the bundle in ``provenance.sigstore.json``.

In: evidence, and where the token and the trust configuration are. Out: :class:`IdentitySigning`. The token comes from a file, from
RUNSPEC_IDENTITY_TOKEN, from the CI job that this runs in, or from a person at a terminal, in this order; it is shown nowhere.

    sign_as_identity(Path("submission_runs/quickstart_v1"), Instance(), token_file=Path("token"))
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputInvalid, RemoteRefused, RunspecError
from engine.evidence.about import SIGSTORE, STATEMENT
from engine.evidence.signing.sign import signable, write_signature
from engine.evidence.signing.sigstore_bundle import SigstoreError, TrustedIdentity
from engine.extras import require
from engine.os_errors import hint_for

if TYPE_CHECKING:
    from engine.evidence.signing import sigstore_library

TOKEN = "RUNSPEC_IDENTITY_TOKEN"
MAX_BYTES = 1 << 20
TOKENS = f"--identity-token FILE, or {TOKEN}; a CI job with an identity and a person at a terminal need neither"
# kind of a SigstoreError -> the error, its code, what went wrong, what to do
FAILURES: Mapping[str, tuple[type[RunspecError], str, str, str]] = {
    "token": (InputInvalid, "U170", "the identity token cannot be used", TOKENS),
    "expired": (InputInvalid, "U171", "the identity token has expired", "get a new one: they are for minutes only"),
    "trust root": (InputInvalid, "U172", "the trust configuration cannot be used",
                   "it is the instance's own file (ClientTrustConfig as JSON); without --trust-config the public instance is used"),
    "network": (RemoteRefused, "U173", "the sigstore instance cannot be reached",
                "try again with a network; verify --offline uses the trust root as this machine last saw it"),
    "instance": (RemoteRefused, "U174", "the sigstore instance gave no signature that verifies",
                 "is the token for this instance? nothing was written"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instance:
    """Whose servers and trust root: the public instance, its staging twin, or those of a file."""

    staging: bool = False
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class IdentitySigning:
    """``identity``: that of the certificate; ``replaced``: whether another bundle was there."""

    identity: str
    replaced: bool


def sign_as_identity(path: Path, instance: Instance, token_file: Path | None = None) -> IdentitySigning:
    """Write the bundle. Raises X101, U152 to U154, U170 (token), U171 (expired), U172 (trust root), U173 (network), U174 (refused)."""
    require("sigstore", "signing as somebody")
    token = _given(token_file)
    bundle = signable(path)
    client = opened(instance)
    with explained():
        made = client.made(bundle.files[STATEMENT], token or _own(client))
    write_signature(path, bundle, SIGSTORE, made.data)
    return IdentitySigning(made.identity, SIGSTORE in bundle.files)


def trusted_identity(identity: str, issuer: str, instance: Instance, *, offline: bool) -> TrustedIdentity:
    """Who must have signed, with the trust root that says so. Raises X101, U172, U173."""
    require("sigstore", "verifying who signed")
    client = opened(instance, offline=offline)
    return TrustedIdentity(identity, issuer, lambda data: client.signed_bytes(data, identity, issuer))


def opened(instance: Instance, *, offline: bool = False) -> sigstore_library.SigstoreClient:
    """The library, with the instance's trust root. Raises U172, U173."""
    from engine.evidence.signing import sigstore_library as library

    text = None if instance.config is None else _read(instance.config, "U172", "the trust configuration")
    with explained():
        return library.client(text, staging=instance.staging, offline=offline)


@contextmanager
def explained() -> Iterator[None]:
    """SigstoreError as one of :data:`FAILURES`."""
    try:
        yield
    except SigstoreError as error:
        kind, code, what, hint = FAILURES[error.kind]
        raise kind(code, f"{what}: {error}", hint=hint) from error


def _given(token_file: Path | None) -> str | None:
    if token_file is not None:
        return _read(token_file, "U170", "the identity token").strip()
    return os.environ.get(TOKEN) or None


def _own(client: sigstore_library.SigstoreClient) -> str:
    """Of the CI job, or of the person. Raises SigstoreError."""
    token = client.ambient_token()
    if token is None and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SigstoreError(
            "token", "there is none, this is no CI job with an identity, and there is no terminal to ask at"
        )
    return token if token is not None else client.asked_token()


def _read(path: Path, code: str, what: str) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        hint = hint_for(error.errno) if isinstance(error, OSError) else None
        raise InputInvalid(code, f"{what} {path} cannot be read: {why}", hint=hint or "name its file") from error
