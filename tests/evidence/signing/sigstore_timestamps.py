"""A timestamp authority (RFC 3161) of an own sigstore instance: openssl answers, with a certificate of an authority of its own.

In: a folder for openssl's files. Out: :class:`Timestamps`, which answers a query with when it came, and what a trust configuration says of it.
"""

from __future__ import annotations

import datetime as dt
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.evidence.signing.sigstore_instance import Key, b64, new_key, usage

CONFIGURATION = """[tsa]
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
serial = {folder}/serial
"""


@dataclass
class Timestamps:
    """Its files are in ``folder``."""

    folder: Path
    authority: Key = field(default_factory=new_key)
    key: Key = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.began = dt.datetime.now(tz=dt.UTC) - dt.timedelta(days=1)
        self.root = self._certificate("root.example", self.authority, "root.example")
        self.leaf = self._certificate("time.example", self.key, "root.example")
        (self.folder / "openssl.cnf").write_text(CONFIGURATION.format(folder=self.folder))
        (self.folder / "serial").write_text("01\n")
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "key.pem").write_bytes(private)
        (self.folder / "leaf.pem").write_bytes(self.leaf.public_bytes(serialization.Encoding.PEM))

    def _certificate(self, subject: str, key: Key, issuer: str) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (issuer, subject)]
        is_root = subject == issuer
        builder = (
            x509.CertificateBuilder(*names, key.public_key(), x509.random_serial_number())
            .not_valid_before(self.began)
            .not_valid_after(self.began + dt.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
            .add_extension(usage(cert=is_root), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if not is_root:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), critical=False
            )
        return builder.sign(self.authority, hashes.SHA256())

    def answer(self, query: bytes) -> bytes:
        """The reply to a query."""
        (self.folder / "query").write_bytes(query)
        words = ["openssl", "ts", "-reply", "-queryfile", "query", "-out", "reply", "-config", "openssl.cnf", "-section", "tsa",
                 "-signer", "leaf.pem", "-inkey", "key.pem"]  # fmt: skip
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True)
        return (self.folder / "reply").read_bytes()

    def trusted(self, url: str) -> dict[str, Any]:
        """For the trusted root."""
        chain = [{"rawBytes": b64(one.public_bytes(serialization.Encoding.DER))} for one in (self.leaf, self.root)]
        return {
            "subject": {"organization": "example", "commonName": "time.example"}, "uri": url, "certChain": {"certificates": chain},
            "validFor": {"start": self.began.strftime("%Y-%m-%dT%H:%M:%SZ")},
        }  # fmt: skip
