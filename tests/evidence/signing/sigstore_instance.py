"""An instance of sigstore on loopback: a certificate authority, a certificate log and a transparency log, with keys of their own.

In: nothing. Out: :class:`Instance`, with the trust configuration that names it, and a server that answers the two requests of a signer as
Fulcio's and Rekor's interfaces (version 2 and 1) do. What it signs is real: the library verifies it by its own rules, and only the root is ours.

    with instance.served() as url: ...
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

ISSUER_OID = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER_V2_OID = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
SCT_LIST_OID = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
ORIGIN = "log.example - 1"
LIFETIME = dt.timedelta(minutes=10)
Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    """P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def b64(data: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(data).decode()


def spki(key: Key) -> bytes:
    """The public key, DER."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def signed(key: Key, data: bytes) -> bytes:
    """ECDSA over SHA-256."""
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def der(tag: int, content: bytes) -> bytes:
    """One DER value of fewer than 64 KiB."""
    size = len(content)
    length = (
        bytes([size]) if size < 128 else b"\x81" + bytes([size]) if size < 256 else b"\x82" + struct.pack("!H", size)
    )
    return bytes([tag]) + length + content


def identity_token(issuer: str = "https://issuer.example", seconds: int = 300, **claims: object) -> str:
    """A token as an identity provider gives it. Its signature is Fulcio's to check, and ours does not."""
    now = int(time.time())
    values = {
        "aud": "sigstore",
        "sub": "ann@example.org",
        "iss": issuer,
        "iat": now - 5,
        "exp": now + seconds,
        **claims,
    }
    parts = [json.dumps({"alg": "RS256", "typ": "JWT"}).encode(), json.dumps(values).encode(), b"not checked here"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@dataclass
class Instance:
    """The keys of one instance, and its log so far (of which the first entry is somebody else's)."""

    authority: Key = field(default_factory=new_key)
    certificate_log: Key = field(default_factory=new_key)
    transparency_log: Key = field(default_factory=new_key)
    leaves: list[bytes] = field(default_factory=lambda: [hashlib.sha256(b"\x00somebody else's").digest()])
    refuses: dict[str, int] = field(default_factory=dict)  # path -> status that the server answers instead
    url: str = "http://127.0.0.1:9"  # where nobody listens, until it is served
    person: str = ""  # the token of who signs in with a browser
    job: str = ""  # the token of a CI job
    timestamps: Any = None  # a timestamp authority (sigstore_timestamps.py)

    def __post_init__(self) -> None:
        self.began = dt.datetime.now(tz=dt.UTC) - dt.timedelta(days=1)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority.example")])
        self.root = (
            x509.CertificateBuilder(name, name, self.authority.public_key(), x509.random_serial_number())
            .not_valid_before(self.began)
            .not_valid_after(self.began + dt.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage(cert=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.authority.public_key()), critical=False)
            .sign(self.authority, hashes.SHA256())
        )

    def certificate(self, public_key: Any, identity: str, issuer: str) -> x509.Certificate:
        """For ten minutes, with the proof that the certificate log has seen it."""
        now = dt.datetime.now(tz=dt.UTC)
        kind = x509.UniformResourceIdentifier if "://" in identity else x509.RFC822Name
        builder = (
            x509.CertificateBuilder(self.root.subject, x509.Name([]), public_key, x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=5))
            .not_valid_after(now + LIFETIME)
            .add_extension(usage(cert=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([kind(identity)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(ISSUER_OID, issuer.encode()), critical=False)
            .add_extension(x509.UnrecognizedExtension(ISSUER_V2_OID, der(0x0C, issuer.encode())), critical=False)
        )
        seen = builder.sign(self.authority, hashes.SHA256()).tbs_certificate_bytes
        timestamps = x509.UnrecognizedExtension(SCT_LIST_OID, der(0x04, self._timestamps(seen, now)))
        return builder.add_extension(timestamps, critical=False).sign(self.authority, hashes.SHA256())

    def _timestamps(self, tbs: bytes, now: dt.datetime) -> bytes:
        """One signed certificate timestamp, in its list (RFC 6962, 3.2 and 3.3)."""
        moment = int(now.timestamp() * 1000)
        entry = hashlib.sha256(spki(self.authority)).digest() + struct.pack("!I", len(tbs))[1:] + tbs
        signature = signed(self.certificate_log, struct.pack("!BBQH", 0, 0, moment, 1) + entry + b"\x00\x00")
        log = hashlib.sha256(spki(self.certificate_log)).digest()
        one = struct.pack("!B32sQHBBH", 0, log, moment, 0, 4, 3, len(signature)) + signature
        return struct.pack("!HH", len(one) + 2, len(one)) + one

    def entry(self, proposed: Any) -> dict[str, Any]:
        """What the transparency log answers to a proposed entry of kind dsse 0.0.1."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        signatures = [{"signature": one["sig"], "verifier": content["verifiers"][0]} for one in envelope["signatures"]]
        spec = {
            "envelopeHash": _digest(content["envelope"].encode()),
            "payloadHash": _digest(payload),
            "signatures": signatures,
        }
        body = canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        before = self.leaves[-1]
        self.leaves = [before, hashlib.sha256(b"\x00" + body).digest()]  # a log of two: the proof is the other one
        root = hashlib.sha256(b"\x01" + before + self.leaves[1]).digest()
        log = hashlib.sha256(spki(self.transparency_log)).digest()
        told = {"body": b64(body), "integratedTime": int(time.time()), "logID": log.hex(), "logIndex": 1}
        proof = {"logIndex": 1, "rootHash": root.hex(), "treeSize": 2, "hashes": [before.hex()],
                 "checkpoint": self._checkpoint(root, log)}  # fmt: skip
        promise = b64(signed(self.transparency_log, canonical(told)))
        return {"ab" * 40: {**told, "verification": {"signedEntryTimestamp": promise, "inclusionProof": proof}}}

    def _checkpoint(self, root: bytes, log: bytes) -> str:
        note = f"{ORIGIN}\n2\n{b64(root)}\n"
        return f"{note}\n\u2014 log.example {b64(log[:4] + signed(self.transparency_log, note.encode()))}\n"

    def trust_config(self) -> dict[str, Any]:
        """What a client needs to know of it."""
        since = {"start": self.began.strftime("%Y-%m-%dT%H:%M:%SZ")}
        service = {"url": self.url, "majorApiVersion": 1, "validFor": since, "operator": "example"}
        log = [_log(key, since, self.url) for key in (self.transparency_log, self.certificate_log)]
        chain = {"certificates": [{"rawBytes": b64(self.root.public_bytes(serialization.Encoding.DER))}]}
        names = {"organization": "example", "commonName": "authority.example"}
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": log[:1], "ctlogs": log[1:],
                "timestampAuthorities": [self.timestamps.trusted(self.url)] if self.timestamps else [],
                "certificateAuthorities": [{"subject": names, "uri": self.url, "certChain": chain, "validFor": since}],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [service], "oidcUrls": [service], "rekorTlogUrls": [service],
                "tsaUrls": [{**service, "url": f"{self.url}/timestamp"}] if self.timestamps else [],
                "rekorTlogConfig": {"selector": "ANY"}, "tsaConfig": {"selector": "ANY"},
            },
        }  # fmt: skip

    @contextmanager
    def served(self) -> Iterator[str]:
        """On loopback, at a free port."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self.url
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, path: str, request: bytes, authorization: str) -> tuple[int, Any]:
        """(status, document) for what is posted."""
        if path in self.refuses:
            return self.refuses[path], {"code": self.refuses[path], "message": "refused"}
        if path == "/token":
            is_right = b"code=of-the-browser" in request
            return (200, {"access_token": self.person}) if is_right else (400, {"error": "invalid_grant"})
        if path == "/timestamp":
            return 200, self.timestamps.answer(request)
        if path == "/api/v1/log/entries":
            return 201, self.entry(json.loads(request))
        claims = json.loads(base64.urlsafe_b64decode(authorization.split(".")[1] + "=="))
        csr = x509.load_pem_x509_csr(base64.b64decode(json.loads(request)["certificateSigningRequest"]))
        made = self.certificate(csr.public_key(), claims.get("email", claims["sub"]), claims["iss"])
        chain = [one.public_bytes(serialization.Encoding.PEM).decode() for one in (made, self.root)]
        return 200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def page(self, path: str) -> tuple[int, Any]:
        """(status, document) of an address, or (302, where to): of the identity provider, and of a CI's."""
        place, _, query = path.partition("?")
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(query).items()}
        if place == "/.well-known/openid-configuration":
            return 200, {"authorization_endpoint": f"{self.url}/auth", "token_endpoint": f"{self.url}/token"}
        if place == "/ci":
            return 200, {"value": self.job}
        answer = urllib.parse.urlencode({"code": "of-the-browser", "state": asked["state"]})
        return 302, f"{asked['redirect_uri']}?{answer}"


def canonical(value: Any) -> bytes:
    """RFC 8785, of values without fractions."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _digest(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _log(key: Key, since: dict[str, str], url: str) -> dict[str, Any]:
    public = {"rawBytes": b64(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since}
    identity = {"keyId": b64(hashlib.sha256(spki(key)).digest())}
    return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": identity}


def usage(*, cert: bool) -> x509.KeyUsage:
    """Of an authority, or of who signs."""
    others = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                            "crl_sign", "encipher_only", "decipher_only"), False)  # fmt: skip
    return x509.KeyUsage(digital_signature=not cert, key_cert_sign=cert, **others)


def _handler(instance: Instance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(*instance.answer(self.path, body, self.headers.get("Authorization", "")))

        def do_GET(self) -> None:
            self._send(*instance.page(self.path))

        def _send(self, status: int, document: Any) -> None:
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", document)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler
