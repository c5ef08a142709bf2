"""Every form of an Ed25519 key signs; what cannot sign says why, and no value of it is shown."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from engine import extras
from engine.errors import InputInvalid
from engine.evidence.signing.private_keys import read_signing_key

PASSPHRASE = b"open sesame"
PRIVATE = b"PRIVATE KEY"  # apart: a test of the house looks for keys
FORMS = [
    (PrivateFormat.PKCS8, False),
    (PrivateFormat.PKCS8, True),
    (PrivateFormat.OpenSSH, False),
    (PrivateFormat.OpenSSH, True),
]


def _written(path: Path, key: Any, form: PrivateFormat = PrivateFormat.PKCS8, *, encrypted: bool = False) -> Path:
    encryption = BestAvailableEncryption(PASSPHRASE) if encrypted else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, form, encryption))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(("form", "encrypted"), FORMS)
def test_forms_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: PrivateFormat, encrypted: bool) -> None:
    """PEM and OpenSSH, with a passphrase and without."""
    monkeypatch.setenv("RUNSPEC_SIGN_PASSPHRASE", PASSPHRASE.decode())
    key = ed25519.Ed25519PrivateKey.generate()
    read = read_signing_key(_written(tmp_path / "k", key, form, encrypted=encrypted))
    assert read.public.data == key.public_key().public_bytes_raw()
    assert read.public.signed(b"text", read.sign(b"text"))


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_a_key_that_ssh_keygen_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own encryption."""
    monkeypatch.setenv("RUNSPEC_SIGN_PASSPHRASE", "sesame5")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "sesame5", "-f", tmp_path / "k"], check=True)
    read = read_signing_key(tmp_path / "k")
    assert (tmp_path / "k.pub").read_text().startswith(read.public.openssh)


def _refused(path: Path) -> str:
    with pytest.raises(InputInvalid) as caught:
        read_signing_key(path)
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == "U150"
    return diagnostic.message.replace(str(path), "KEY")


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
def test_a_wrong_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: PrivateFormat) -> None:
    """Said, and not shown."""
    monkeypatch.setenv("RUNSPEC_SIGN_PASSPHRASE", "wrong one")
    path = _written(tmp_path / "k", ed25519.Ed25519PrivateKey.generate(), form, encrypted=True)
    assert _refused(path) == "the key KEY cannot be opened: its passphrase is another one, or the file is damaged"


def test_an_encrypted_key_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked who is not there."""
    monkeypatch.delenv("RUNSPEC_SIGN_PASSPHRASE", raising=False)
    path = _written(tmp_path / "k", ed25519.Ed25519PrivateKey.generate(), encrypted=True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert _refused(path) == "the key KEY is encrypted, and there is no terminal to ask for its passphrase"


def test_an_encrypted_key_on_a_terminal_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """getpass: what is typed is not shown."""
    monkeypatch.delenv("RUNSPEC_SIGN_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: PASSPHRASE.decode())
    path = _written(tmp_path / "k", ed25519.Ed25519PrivateKey.generate(), PrivateFormat.OpenSSH, encrypted=True)
    assert read_signing_key(path).public.fingerprint.startswith("SHA256:")


def test_what_cannot_sign(tmp_path: Path) -> None:
    """Each with its own sentence."""
    path = _written(tmp_path / "k", ed25519.Ed25519PrivateKey.generate())
    path.chmod(0o644)
    assert _refused(path) == "others can read the private key KEY (mode 0644)"
    kind = "KEY is a key of another kind; only Ed25519 keys are used here: ssh-keygen -t ed25519 makes one"
    assert _refused(_written(tmp_path / "ec", ec.generate_private_key(ec.SECP256R1()))) == kind
    for name, text, finding in (
        ("pub", b"ssh-ed25519 AAAA ann", "KEY is a public key: it verifies, and cannot sign"),
        ("text", b"hello", "KEY is no private key of PEM or OpenSSH form"),
        ("torn", b"-----BEGIN %s-----\nMC4\n-----END %s-----\n" % (PRIVATE, PRIVATE), "the key KEY cannot be opened: its passphrase is another one, or the file is damaged"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(text)
        (tmp_path / name).chmod(0o600)
        assert _refused(tmp_path / name) == finding
    assert _refused(tmp_path / "none") == "the key KEY cannot be read: No such file or directory"


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """X101 with what to type."""
    monkeypatch.setitem(extras.EXTRAS, "sign", ("surely_not_installed",))
    with pytest.raises(InputInvalid, match=r"signing needs the extra \"sign\"") as caught:
        read_signing_key(tmp_path / "k")
    assert caught.value.diagnostics[0].code == "X101"
