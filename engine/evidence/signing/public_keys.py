"""Ed25519 public keys in the forms that people have: a line of OpenSSH, PEM; and the fingerprint that OpenSSH shows.

In: text. Out: :class:`PublicKey`, or :class:`UnusableKey` with one sentence. Only the standard library is used.

    >>> key = PublicKey(bytes(32))
    >>> key.openssh
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    >>> public_key_of(key.openssh) == key, key.fingerprint
    (True, 'SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk')
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from engine.evidence.signing.ed25519 import KEY_BYTES, is_signed

KIND = "ssh-ed25519"
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_SPKI = bytes.fromhex("302a300506032b6570032100")  # of Ed25519, before its 32 bytes (RFC 8410)
KINDS = "only Ed25519 keys are used here: ssh-keygen -t ed25519 makes one"

_ELLIPTIC = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey (RFC 5480), in the first bytes of such a key


class UnusableKey(Exception):
    """Why a text is no key that can be used."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The 32 bytes."""

    data: bytes

    @property
    def blob(self) -> bytes:
        """The bytes in OpenSSH's form, of which the fingerprint is the digest."""
        parts = (KIND.encode(), self.data)
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    @property
    def openssh(self) -> str:
        """As ``ssh-keygen`` writes it, without a comment."""
        return f"{KIND} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(self.blob).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's, over the message."""
        return is_signed(self.data, message, signature)


def public_key_of(text: str) -> PublicKey:
    """A PEM block, or a line of OpenSSH (``ssh-ed25519 AAAA… comment``). Raises UnusableKey."""
    text = text.strip()
    if "PRIVATE KEY" in text:
        raise UnusableKey("it is a private key, which stays with whoever signs: a public key is needed")
    if text.startswith("-----BEGIN"):
        return _of_pem(text)
    words = text.split()
    if len(words) < 2:
        raise UnusableKey("it is no public key of PEM or OpenSSH form")
    if words[0] != KIND:
        raise UnusableKey(f"its kind is {words[0]:.40}; {KINDS}")
    data = decoded(words[1])
    key = PublicKey(data[-KEY_BYTES:])
    if data != key.blob:
        raise UnusableKey("its bytes are not those of an Ed25519 key")
    return key


def _of_pem(text: str) -> PublicKey:
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise UnusableKey(f"it is PEM, but not one block from {_BEGIN} to {_END}")
    data = decoded("".join(text[len(_BEGIN) : -len(_END)].split()))
    if len(data) != len(_SPKI) + KEY_BYTES or not data.startswith(_SPKI):
        raise UnusableKey(f"it is a key of another kind; {KINDS}")
    return PublicKey(data[len(_SPKI) :])


def is_elliptic_pem(text: str) -> bool:
    """Whether a text is a PEM public key on an elliptic curve other than Ed25519's.

    >>> is_elliptic_pem("ssh-ed25519 AAAA")
    False
    """
    text = text.strip()
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        return False
    try:
        return _ELLIPTIC in decoded("".join(text[len(_BEGIN) : -len(_END)].split()))[:32]
    except UnusableKey:
        return False


def decoded(text: str) -> bytes:
    """The bytes of a base64 text. Raises UnusableKey."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableKey("its base64 is damaged") from error
