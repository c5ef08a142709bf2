"""What an allowed_signers file means, and that ``ssh-keygen`` reads its keys in the same way."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.errors import InputInvalid
from engine.evidence.signing.public_keys import PublicKey, UnusableKey, public_key_of
from engine.evidence.signing.trust import matches, read_trusted_keys, trusted_keys

KEY = PublicKey(bytes(range(32)))
NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("text", "principals"),
    [
        (KEY.openssh, ""),
        (f"{KEY.openssh} a comment with words", ""),
        (PEM, ""),
        (f"# people we know\n\nann@x.org {KEY.openssh}", "ann@x.org"),
        (f'"ann@x.org,bob@x.org" {KEY.openssh}', "ann@x.org,bob@x.org"),
        (f'*@x.org namespaces="git,runspec-*",valid-before="20270101Z" {KEY.openssh}', "*@x.org"),
    ],
)
def test_forms_of_a_trusted_key(text: str, principals: str) -> None:
    """A public key of PEM or OpenSSH, a line with names and options."""
    [entry] = trusted_keys(text, "keys").entries
    assert (entry.key, entry.principals, entry.refusal(NOW)) == (KEY, principals, None)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ('namespaces="git"', "is trusted for git only, and not for runspec-evidence"),
        ('namespaces="*,!runspec-evidence"', "is trusted for *,!runspec-evidence only, and not for runspec-evidence"),
        ('valid-after="20260601120001Z"', "is not trusted before 2026-06-01T12:00:01+00:00"),
        ('valid-before="202606011159Z"', "has expired: it is not trusted after 2026-06-01T11:59:00+00:00"),
        ('valid-after="20260601120000Z",valid-before="20260601120000Z"', None),
    ],
)
def test_options_are_honoured(options: str, refusal: str | None) -> None:
    """As ssh-keygen does; both ends of the time count."""
    [entry] = trusted_keys(f"ann@x.org {options} {KEY.openssh}", "keys").entries
    assert entry.refusal(NOW) == refusal


def test_an_authority_and_keys_of_other_kinds_are_no_signers() -> None:
    """They may stand in the file for others."""
    text = f"ca cert-authority {KEY.openssh}\nrsa ssh-rsa AAAA\nann {KEY.openssh}"
    assert [entry.principals for entry in trusted_keys(text, "keys").entries] == ["ann"]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "keys has no key that could be trusted"),
        ("# nothing", "keys has no key that could be trusted"),
        ("ann ssh-rsa AAAA", "keys has no key that could be trusted"),
        ("ann", "keys, line 1: it is no entry of allowed_signers"),
        ("ann ssh-ed25519 AAAA", "keys, line 1: this key cannot be used: its bytes are not those of an Ed25519 key"),
        ("ann ssh-ed25519 ????", "keys, line 1: this key cannot be used: its base64 is damaged"),
        (f'ann valid-after="soon" {KEY.openssh}', "keys, line 1: 'soon' is no time"),
        (f'ann valid-after="20261301" {KEY.openssh}', "keys, line 1: '20261301' is no time"),
        (f"ann touch-required {KEY.openssh}", "keys, line 1: 'touch-required' is no option of allowed_signers"),
        ("-----BEGIN PRIVATE" + " KEY-----\n-----END PRIVATE KEY-----", "keys: this key cannot be used: it is a private key, which stays with whoever signs: a public key is needed"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "keys: this key cannot be used: it is a key of another kind; only Ed25519 keys are used here: ssh-keygen -t ed25519 makes one"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_with_its_line(text: str, finding: str) -> None:
    """U151."""
    with pytest.raises(InputInvalid) as caught:
        trusted_keys(text, "keys")
    assert (caught.value.diagnostics[0].code, caught.value.diagnostics[0].message) == ("U151", finding)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A sentence, and no traceback."""
    with pytest.raises(InputInvalid, match=r"cannot be read: No such file or directory"):
        read_trusted_keys(tmp_path / "none")


def test_patterns_of_openssh() -> None:
    """A negated one wins."""
    assert [matches(name, "a*,!ab,c?") for name in ("a", "abc", "ab", "cd", "cde")] == [True, True, False, True, False]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_the_fingerprint_is_the_one_that_ssh_keygen_shows(tmp_path: Path) -> None:
    """Of a key that ssh-keygen made."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "k.pub"], check=True, capture_output=True, text=True)
    assert public_key_of((tmp_path / "k.pub").read_text()).fingerprint == shown.stdout.split()[1]


def test_a_text_that_is_no_key() -> None:
    """Whatever it is."""
    for text in ("x", "ssh-ed25519", "ecdsa-sha2-nistp256 AAAA"):
        with pytest.raises(UnusableKey):
            public_key_of(text)
