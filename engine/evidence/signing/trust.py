"""The keys that a reader trusts: OpenSSH's ``allowed_signers``, or public keys.

In: a file's text. Out: :class:`TrustedKeys`. An ``allowed_signers`` line has principals (patterns), options and a key; what its options
mean here is what ``ssh-keygen -Y verify`` does with them: ``namespaces``, ``valid-after``, ``valid-before`` (times without ``Z`` are
local), and a ``cert-authority`` signs nothing itself. A signature has no trusted time, so validity is asked for now.

    >>> line = 'ann@example.org namespaces="runspec-evidence" ' + PublicKey(bytes(32)).openssh
    >>> [entry.principals for entry in trusted_keys(line, "allowed_signers").entries]
    ['ann@example.org']
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from engine.errors import InputInvalid
from engine.evidence.signing.public_keys import KIND, PublicKey, UnusableKey, is_elliptic_pem, public_key_of
from engine.os_errors import hint_for

NAMESPACE = "runspec-evidence"  # what a signature is for, in allowed_signers
MAX_BYTES = 1 << 20
FORMS = 'lines such as `you@example.org ssh-ed25519 AAAA…` (`man ssh-keygen`, "ALLOWED SIGNERS"), or a public key'
_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(?:,|$)')
_TIME = re.compile(r"(\d{8})(\d{4}(\d{2})?)?(Z?)")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One entry. ``principals``: patterns of names, as written; empty for a key without names."""

    key: PublicKey
    principals: str = ""
    namespaces: str | None = None
    valid_after: dt.datetime | None = None
    valid_before: dt.datetime | None = None

    @property
    def name(self) -> str:
        """For a finding: the name that the reader gave it, and the key."""
        return f"{self.principals} ({self.key.fingerprint})" if self.principals else self.key.fingerprint

    def refusal(self, now: dt.datetime) -> str | None:
        """Why a signature by it does not count for evidence now; None where it does."""
        if self.namespaces is not None and not matches(NAMESPACE, self.namespaces):
            return f"is trusted for {self.namespaces} only, and not for {NAMESPACE}"
        if self.valid_after is not None and now < self.valid_after:
            return f"is not trusted before {self.valid_after.isoformat()}"
        if self.valid_before is not None and now > self.valid_before:
            return f"has expired: it is not trusted after {self.valid_before.isoformat()}"
        return None


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """``source``: the file's name, for findings."""

    source: str
    entries: Sequence[TrustedKey]

    def of(self, key: PublicKey) -> list[TrustedKey]:
        """The entries of a key."""
        return [entry for entry in self.entries if entry.key == key]


def read_trusted_keys(path: Path) -> TrustedKeys:
    """The keys of a file. Raises InputInvalid (U151)."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputInvalid(
            "U151",
            f"{path} cannot be read: {error.strerror or error}",
            hint=hint_for(error.errno) or "name a file: --trust KEYS",
        ) from error
    if len(data) > MAX_BYTES:
        raise InputInvalid("U151", f"{path} is larger than 1 MiB; no file of keys is", hint=f"it has {FORMS}")
    return trusted_keys(data.decode("utf-8", "replace"), str(path))


def is_elliptic_file(path: Path) -> bool:
    """Whether a file is a PEM public key on an elliptic curve, which signs weights and no evidence; what cannot be read is none."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return False
    return is_elliptic_pem(text)


def trusted_keys(text: str, name: str) -> TrustedKeys:
    """The keys of a text. Raises InputInvalid (U151) with the line that cannot be used."""
    if text.lstrip().startswith("-----BEGIN"):
        return TrustedKeys(name, [TrustedKey(_key(text, name))])
    entries: list[TrustedKey] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            entries += _entry(line.strip(), f"{name}, line {number}")
    if not entries:
        raise InputInvalid("U151", f"{name} has no key that could be trusted", hint=f"it has {FORMS}")
    return TrustedKeys(name, entries)


def _key(text: str, where: str) -> PublicKey:
    try:
        return public_key_of(text)
    except UnusableKey as error:
        raise InputInvalid("U151", f"{where}: this key cannot be used: {error}", hint=f"it has {FORMS}") from error


def _entry(line: str, where: str) -> Iterator[TrustedKey]:
    words = _WORD.findall(line)
    if words[0] == KIND:  # a public key as ssh-keygen writes it
        yield TrustedKey(_key(line, where))
        return
    principals, rest = words[0].replace('"', ""), words[1:]
    options = "" if not rest or _is_kind(rest[0]) else rest.pop(0)
    if len(rest) < 2:
        raise InputInvalid("U151", f"{where}: it is no entry of allowed_signers", hint=f"it has {FORMS}")
    values = _options(options, where)
    if "cert-authority" not in values and rest[0] == KIND:  # keys of other kinds are others' business
        yield TrustedKey(
            _key(" ".join(rest), where), principals, values.get("namespaces"),
            _time(values.get("valid-after"), where), _time(values.get("valid-before"), where),
        )  # fmt: skip


def _is_kind(word: str) -> bool:
    return word.startswith(("ssh-", "ecdsa-", "sk-"))


def _options(text: str, where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _OPTION.match(text, at)
        if match is None or match[1].lower() not in ("cert-authority", "namespaces", "valid-after", "valid-before"):
            raise InputInvalid(
                "U151", f"{where}: {text[at:]!a:.60} is no option of allowed_signers", hint=f"it has {FORMS}"
            )
        values[match[1].lower()] = match[2] or ""
        at = match.end()
    return values


def _time(text: str | None, where: str) -> dt.datetime | None:
    """``YYYYMMDD`` or ``YYYYMMDDHHMM[SS]``, of this machine's zone unless Z follows."""
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        moment = dt.datetime.strptime(match[1] + (match[2] or "0000").ljust(6, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError:
        raise InputInvalid(
            "U151", f"{where}: {text!a:.60} is no time", hint="YYYYMMDD or YYYYMMDDHHMM[SS], with Z for UTC"
        ) from None
    utc = dt.timezone.utc  # noqa: UP017 - verify.py runs this on Python 3.9, which has no dt.UTC
    return moment.replace(tzinfo=utc) if match[4] else moment.astimezone()


def matches(name: str, patterns: str) -> bool:
    """OpenSSH's list of patterns: one must fit, and none with ``!``.

    >>> matches("a@x.org", "*@x.org,!b@*"), matches("b@x.org", "*@x.org,!b@*")
    (True, False)
    """
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    if any(fnmatchcase(name, pattern[1:]) for pattern in wanted if pattern.startswith("!")):
        return False
    return any(fnmatchcase(name, pattern) for pattern in wanted if not pattern.startswith("!"))
