"""The one module that imports ``sigstore`` (extra ``sigstore``), loaded when an identity signs or is asked for.

In: a trust configuration (the public instance, its staging twin, or a file's text). Out: a :class:`SigstoreClient`, which makes bundles and verifies
them. What the library raises becomes SigstoreError or NotBySigner.

It verifies by its own rules: the certificate by the authority of the trust root at the time of the signature, its proof of the
certificate log, the entry of the transparency log with its proof, the signature, and that all four are about each other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import jwt
import requests
from cryptography.x509 import (
    Certificate,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    UnrecognizedExtension,
)
from sigstore.dsse import Statement
from sigstore.errors import CertValidationError, Error, NetworkError, TUFError
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityError, IdentityToken, Issuer, IssuerError, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from engine.evidence.signing.sigstore_bundle import NotBySigner, SigstoreError

OTHER_BYTES = "DSSE: invalid signature"  # the library's words


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """A bundle, and the identity in its certificate."""

    data: bytes
    identity: str


@dataclass(frozen=True, slots=True)
class SigstoreClient:
    """Of one instance."""

    config: ClientTrustConfig
    verifier: Verifier

    def ambient_token(self) -> str | None:
        """Of the CI job that this runs in; None where it is none that sigstore knows. Raises SigstoreError."""
        try:
            token: str | None = detect_credential()
        except IdentityError as error:
            raise SigstoreError("token", _first_line(error)) from error
        return token

    def asked_token(self) -> str:
        """Of a person, who signs in with a browser. Raises SigstoreError."""
        try:
            return str(Issuer(self.config.signing_config.get_oidc_url()).identity_token())
        except NetworkError as error:
            raise SigstoreError("network", _first_line(error.__cause__ or error)) from error
        except (Error, IssuerError) as error:
            raise SigstoreError("token", _first_line(error)) from error

    def made(self, statement: bytes, token: str) -> SignedBundle:
        """Signed as the identity in the token, and verified. Raises SigstoreError."""
        identity = _identity(token)
        try:
            with SigningContext.from_trust_config(self.config).signer(identity) as signer:
                bundle = signer.sign_dsse(Statement(statement))
            self.verifier.verify_dsse(bundle, _Anybody())
        except requests.ConnectionError as error:
            raise SigstoreError("network", _first_line(error)) from error
        except Exception as error:  # the library's exceptions have no base of their own
            raise SigstoreError("instance", _refusal(error)) from error
        return SignedBundle(bundle.to_json().encode() + b"\n", " or ".join(_names(bundle.signing_certificate)))

    def signed_bytes(self, data: bytes, identity: str, issuer: str) -> tuple[str, bytes]:
        """(payload type, payload) of a bundle by this identity. Raises NotBySigner."""
        try:
            kind, payload = self.verifier.verify_dsse(Bundle.from_json(data), _Asked(identity, issuer))
        except NotBySigner:
            raise
        except CertValidationError as error:
            why = "its certificate is by no authority of the trust root, or was not valid when it signed"
            raise NotBySigner(why) from error
        except Exception as error:  # a stranger's bundle: whatever the library makes of it, it does not verify
            other = "the signature does not fit: it is over other bytes"
            raise NotBySigner(
                other if OTHER_BYTES in str(error) else f"it does not verify: {_first_line(error)}"
            ) from error
        return str(kind), bytes(payload)


def client(text: str | None, *, staging: bool = False, offline: bool = False) -> SigstoreClient:
    """Of a file's text, or of the public instance: refreshed, or ``offline`` as it was last seen. Raises SigstoreError."""
    logging.getLogger("sigstore").setLevel(logging.ERROR)  # it warns of --offline, which was asked for
    public = ClientTrustConfig.staging if staging else ClientTrustConfig.production
    try:
        config = ClientTrustConfig.from_json(text) if text is not None else public(offline=offline)
        return SigstoreClient(config, Verifier(trusted_root=config.trusted_root))
    except TUFError as error:
        raise SigstoreError("network", f"{error}: {_first_line(error.__cause__ or error)}") from error
    except (Error, ValueError, OSError) as error:
        raise SigstoreError("trust root", _first_line(error)) from error


class _Anybody:
    """The policy of a signer who looks whether what he got verifies."""

    def verify(self, cert: Certificate) -> None:
        """Whoever it names."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The library's policies, with findings that say which identity the certificate names instead."""

    identity: str
    issuer: str

    def verify(self, cert: Certificate) -> None:
        """Raises NotBySigner."""
        names = " or ".join(_names(cert))
        try:
            policy.Identity(identity=self.identity).verify(cert)
        except Error as error:
            raise NotBySigner(f"signed by {names!a:.200}, and you asked for {self.identity}") from error
        try:
            policy.AnyOf([policy.OIDCIssuer(self.issuer), policy.OIDCIssuerV2(self.issuer)]).verify(cert)
        except Error as error:
            raise NotBySigner(
                f"signed by {self.identity} as {_issuer(cert)} knows them, and you asked for {self.issuer}"
            ) from error


def _names(cert: Certificate) -> list[str]:
    names = cert.extensions.get_extension_for_class(SubjectAlternativeName).value
    return [*names.get_values_for_type(RFC822Name), *names.get_values_for_type(UniformResourceIdentifier)] or ["nobody"]


def _issuer(cert: Certificate) -> str:
    found = cert.extensions.get_extension_for_oid(policy.OIDCIssuer.oid).value
    return ascii(found.value.decode(errors="replace")[:200]) if isinstance(found, UnrecognizedExtension) else "nobody"


def _identity(token: str) -> IdentityToken:
    try:
        return IdentityToken(token)
    except IdentityError as error:
        is_old = isinstance(error.__cause__, jwt.ExpiredSignatureError)
        raise SigstoreError("expired" if is_old else "token", _first_line(error.__cause__ or error)) from error


def _refusal(error: Exception) -> str:
    """With the status where a server answered with one."""
    cause = error.__cause__
    if isinstance(cause, requests.HTTPError) and cause.response is not None:
        return f"{_first_line(error)} (HTTP {cause.response.status_code})"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


__all__ = ["SignedBundle", "SigstoreClient", "client"]
