"""The one module that imports ``cryptography`` (extra ``sign``), loaded when a key is read to sign with.

In: the bytes of a private key. Out: the library's Ed25519 key, as the two functions that signing needs; :class:`Encrypted` where a
passphrase is missing, ValueError where the bytes or the passphrase are wrong, OtherKind for a key of another kind.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key


class Encrypted(Exception):
    """The key needs a passphrase."""


class OtherKind(Exception):
    """The key is none of Ed25519, or of a form that the library does not read."""


def loaded(data: bytes, passphrase: bytes | None) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The 32 bytes of the public key, and the function that signs."""
    load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    try:
        key = load(data, password=passphrase)
    except UnsupportedAlgorithm as error:
        raise OtherKind(str(error)) from error
    except (TypeError, ValueError) as error:
        if passphrase is None and any(word in str(error).lower() for word in ("password", "encrypted")):
            raise Encrypted from error
        raise ValueError(str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OtherKind
    return key.public_key().public_bytes_raw(), key.sign
