"""Whether an Ed25519 signature (RFC 8032) fits a message and a public key: with the standard library alone.

In: public key (32 bytes), message, signature (64 bytes). Out: yes or no. Nothing here makes a signature: that needs a secret,
and a library that keeps it (extra ``sign``). Verifying handles no secret, and a reviewer should need no library for it.

Strict, as OpenSSL and OpenSSH are: encodings must be canonical, S below the order, and the equation is the one without cofactor.
Points are in extended coordinates, on -x^2 + y^2 = 1 + d x^2 y^2 modulo p.

    >>> key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")  # RFC 8032, 7.1, test 1
    >>> signature = bytes.fromhex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
    ...                           "d25bf5f0595bbe24655141438e7a100b")
    >>> is_signed(key, b"", signature), is_signed(key, b"x", signature)
    (True, False)
"""

from __future__ import annotations

import hashlib

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
KEY_BYTES, SIGNATURE_BYTES = 32, 64

Point = tuple[int, int, int, int]  # X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z
NEUTRAL: Point = (0, 1, 1, 0)


def is_signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the secret key signed the message."""
    if len(public_key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    key = _decoded(public_key)
    if key is None or scalar >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    negative = (P - key[0], key[1], key[2], P - key[3])
    # R = S B - h A: compared in its encoding, so that only the canonical one fits.
    return _encoded(_sum(_times(scalar, BASE), _times(challenge, negative))) == signature[:32]


def _decoded(data: bytes) -> Point | None:
    """The point with this encoding: y, and the lowest bit of x."""
    number = int.from_bytes(data, "little")
    y, odd = number & (1 << 255) - 1, number >> 255
    if y >= P:
        return None
    numerator, denominator = (y * y - 1) % P, (D * y * y + 1) % P
    x = numerator * pow(denominator, 3, P) * pow(numerator * pow(denominator, 7, P), (P - 5) // 8, P) % P
    if (denominator * x * x - numerator) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if (denominator * x * x - numerator) % P or (x == 0 and odd):
        return None
    x = P - x if x & 1 != odd else x
    return x, y, 1, x * y % P


def _encoded(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _sum(one: Point, other: Point) -> Point:
    """The complete addition: no case is an exception, doubling included."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(scalar: int, point: Point) -> Point:
    total = NEUTRAL
    while scalar:
        if scalar & 1:
            total = _sum(total, point)
        point, scalar = _sum(point, point), scalar >> 1
    return total


_BASE = _decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert _BASE is not None, "the base point of RFC 8032"
BASE: Point = _BASE
