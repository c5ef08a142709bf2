"""The one module that imports ``model_signing`` (extra ``model-signing``), loaded when weights are signed or their signature is verified.

In: a model folder, a key (PEM), the signature's file. Out: the file, or nothing where it verifies; ValueError with one sentence where the key
or the signature does not fit. The signature is a sigstore bundle over an in-toto statement with each file's digest, as OpenSSF's
specification of model signing has it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from model_signing import signing, verifying

from engine.evidence.signing.weights import KeyIsEncrypted, OtherFiles

OTHER_FILES = "Signature mismatch"  # how the library begins to say so


def signer(key: Path, passphrase: bytes | None) -> Callable[[Path, Path], None]:
    """The function of a folder and a file that hashes the one and writes the other. Raises KeyIsEncrypted, ValueError (the key)."""
    password: Any = passphrase  # annotated as text there, and handed on to what takes bytes alone
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key, password=password)
    except TypeError as error:
        if passphrase is None:
            raise KeyIsEncrypted from error
        raise ValueError(str(error)) from error
    except AttributeError as error:  # of an RSA key, say: it has no curve
        raise ValueError("it is no elliptic-curve key") from error

    def write(folder: Path, out: Path) -> None:
        config.sign(folder, out)

    return write


def require_signed(folder: Path, key: Path, signature: Path) -> None:
    """Raises ValueError with why the signature is not one by this key; OtherFiles where it is, over another folder."""
    with contextlib.redirect_stdout(sys.stderr):  # it prints warnings, which are no part of an answer
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)
        except InvalidSignature as error:
            raise ValueError("it does not fit: it is over other bytes, or by another key") from error
        except Exception as error:  # a stranger's file: whatever the library makes of it, it does not verify
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise (OtherFiles if why.startswith(OTHER_FILES) else ValueError)(why) from error
