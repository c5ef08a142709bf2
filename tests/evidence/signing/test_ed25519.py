"""Our verifier says of every signature what OpenSSL says; it makes none."""

from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engine.evidence.signing.ed25519 import ORDER, P, is_signed

# RFC 8032, 7.1: key, message, signature
VECTORS = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
]  # fmt: skip


def _peer(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_vectors_of_the_standard(key: str, message: str, signature: str) -> None:
    """And no other message."""
    args = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert is_signed(*args)
    assert not is_signed(args[0], args[1] + b"x", args[2])


def test_it_agrees_with_the_peer_on_good_and_changed_signatures() -> None:
    """A bit of key, message or signature turned; the same signature with S plus the order, which must not count."""
    source = random.Random(7)
    for _ in range(25):
        private = Ed25519PrivateKey.from_private_bytes(source.randbytes(32))
        key, message = private.public_key().public_bytes_raw(), source.randbytes(source.randrange(200))
        good = private.sign(message)
        assert is_signed(key, message, good)
        for text in (key, message or b"x", good):
            changed = bytearray(text)
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
            case = [bytes(changed) if part is text else part for part in (key, message, good)]
            assert is_signed(*case) == _peer(*case)
        larger = good[:32] + (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little")
        assert not is_signed(key, message, larger)
        assert not _peer(key, message, larger)


@pytest.mark.parametrize(
    "key", [b"", bytes(31), bytes(33), (P + 1).to_bytes(32, "little"), (2).to_bytes(32, "little"), b"\xff" * 32]
)
def test_what_is_no_key_signs_nothing(key: bytes) -> None:
    """Of another length, not canonical, not on the curve."""
    assert not is_signed(key, b"", bytes(64))
    assert not is_signed(bytes.fromhex(VECTORS[0][0]), b"", bytes(63))
