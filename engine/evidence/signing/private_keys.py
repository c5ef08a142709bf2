"""An Ed25519 private key from a file, for ``runspec sign``: PEM (PKCS #8) or OpenSSH's own form, encrypted or not.

In: a path. Out: a :class:`SigningKey`. The passphrase of an encrypted key comes from RUNSPEC_SIGN_PASSPHRASE, or is asked for on a
terminal. A key that others can read is refused, as ``ssh`` does. ``cryptography`` (extra ``sign``) is imported when a key is read: :mod:`engine.evidence.signing.library`.

    key = read_signing_key(Path("~/.ssh/id_ed25519").expanduser())
    key.sign(b"bytes"), key.public.fingerprint
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputInvalid
from engine.evidence.signing.public_keys import KINDS, PublicKey
from engine.extras import require
from engine.os_errors import hint_for

PASSPHRASE = "RUNSPEC_SIGN_PASSPHRASE"
MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class SigningKey:
    """``sign``: bytes -> the 64 bytes of an Ed25519 signature."""

    public: PublicKey
    sign: Callable[[bytes], bytes]


def read_signing_key(path: Path | None) -> SigningKey:
    """The key. Raises InputInvalid: X101 (the extra is missing), U150 (the file is no key that can sign)."""
    if path is None:
        raise InputInvalid("U150", "sign needs a key", hint="name its file: --key ~/.ssh/id_ed25519")
    require("sign", "signing")
    from engine.evidence.signing import library

    data = read_private_key_file(path)
    try:
        try:
            public, sign = library.loaded(data, None)
        except library.Encrypted:
            public, sign = library.loaded(data, passphrase_of(path))
    except library.OtherKind as error:
        why = f" ({error})" if str(error) else ""
        raise InputInvalid(
            "U150", f"{path} is a key of another kind; {KINDS}{why}", hint="ssh-keygen -t ed25519 -f KEY"
        ) from error
    except ValueError as error:
        raise InputInvalid(
            "U150",
            f"the key {path} cannot be opened: its passphrase is another one, or the file is damaged",
            hint=f"type the passphrase when asked, or set {PASSPHRASE}",
        ) from error
    return SigningKey(PublicKey(public), sign)


def read_private_key_file(path: Path) -> bytes:
    """Its bytes. Raises InputInvalid U150 where it has no private key, or where others can read it."""
    try:
        with path.open("rb") as stream:
            status, data = os.fstat(stream.fileno()), stream.read(MAX_BYTES)
    except OSError as error:
        hint = hint_for(error.errno) or "ssh-keygen -t ed25519 -f KEY makes one"
        raise InputInvalid("U150", f"the key {path} cannot be read: {error.strerror or error}", hint=hint) from error
    if b"PRIVATE KEY-----" not in data:
        is_public = b"PUBLIC KEY-----" in data or data.startswith((b"ssh-", b"ecdsa-", b"sk-"))
        what = (
            "is a public key: it verifies, and cannot sign" if is_public else "is no private key of PEM or OpenSSH form"
        )
        raise InputInvalid("U150", f"{path} {what}", hint="name the private key: --key FILE, without .pub")
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        raise InputInvalid(
            "U150",
            f"others can read the private key {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )
    return data


def passphrase_of(path: Path) -> bytes:
    """From RUNSPEC_SIGN_PASSPHRASE, or typed. Raises InputInvalid U150 where there is neither."""
    given = os.environ.get(PASSPHRASE)
    if given is not None:
        return given.encode()
    if not sys.stdin.isatty():
        raise InputInvalid(
            "U150",
            f"the key {path} is encrypted, and there is no terminal to ask for its passphrase",
            hint=f"set {PASSPHRASE}",
        )
    try:
        return getpass.getpass(f"passphrase of {path}: ").encode()
    except EOFError as error:
        raise InputInvalid(
            "U150", f"the key {path} is encrypted, and no passphrase was typed", hint=f"or set {PASSPHRASE}"
        ) from error
