"""Who asks Kaggle: the credentials of this machine, in the order of Kaggle's own client.

In: the environment. Out: a :class:`Login`, or None where there is none. The order: ``KAGGLE_API_TOKEN`` (a token or the path of a file),
``~/.kaggle/access_token``, ``KAGGLE_USERNAME`` with ``KAGGLE_KEY``, ``kaggle.json``, ``~/.kaggle/credentials.json`` (``kaggle auth login``).
The first one counts; where Kaggle refuses it, the error names it.

    >>> login = find_login({"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": "0123456789abcdef", "HOME": "/nowhere"})
    >>> login.source, login.header()
    ('KAGGLE_USERNAME and KAGGLE_KEY', 'Basic c29tZW9uZTowMTIzNDU2Nzg5YWJjZGVm')
    >>> "0123456789" in repr(login)
    False

:mod:`engine.kaggle` has its own reader for pushes, which also says whose credentials they are; the trainer cannot ask there.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InputInvalid

LARGEST_FILE = 1 << 16
LONGEST_PATH = 1024
EXPIRES_SOON = dt.timedelta(minutes=5)
THREE_WAYS = """give this machine credentials of Kaggle, one of:
a token: on kaggle.com, Settings > API > Generate New Token; then export KAGGLE_API_TOKEN=…, or put it into ~/.kaggle/access_token
a key: Settings > API > Create Legacy API Key; put the kaggle.json that it gives into ~/.kaggle/
in the browser: pip install kaggle, then kaggle auth login"""


@dataclass(frozen=True, slots=True)
class Login:
    """``source`` says where it was found. Without ``user`` the secret is a token; ``refresh`` gives a new one where it has expired."""

    source: str
    secret: str = field(repr=False)
    user: str | None = None
    refresh: str = field(default="", repr=False)

    def header(self) -> str:
        """The value of ``Authorization``."""
        if self.user is None:
            return f"Bearer {self.secret}"
        return f"Basic {b64encode(f'{self.user}:{self.secret}'.encode()).decode()}"


def find_login(environ: Mapping[str, str]) -> Login | None:
    """The first one that is there. Raises InputInvalid M415 for one that cannot be used."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - Path.home() reads no other environment
    return next(_found(environ, home), None)


def _found(environ: Mapping[str, str], home: Path) -> Iterator[Login]:
    value = environ.get("KAGGLE_API_TOKEN", "").strip()
    if value:
        yield _token(value)
    for name in ("access_token", "access_token.txt"):
        token = _text(home / ".kaggle" / name)
        if token:
            yield Login(f"~/.kaggle/{name}", token)
    user, key = (environ.get(f"KAGGLE_{name}", "").strip() for name in ("USERNAME", "KEY"))
    if user and key:
        yield Login("KAGGLE_USERNAME and KAGGLE_KEY", key, user)
    path = _key_file(environ, home)
    values = _json(path)
    if values.get("username") and values.get("key"):
        yield _of_file(path, str(values["username"]), str(values["key"]), user, key)
    if bool(user) != bool(key):
        given, missing = ("KAGGLE_USERNAME", "KAGGLE_KEY") if user else ("KAGGLE_KEY", "KAGGLE_USERNAME")
        raise _unusable(f"{given} is set, and {missing} is not", "set both, or none")
    yield from _oauth(home / ".kaggle" / "credentials.json")


def _token(value: str) -> Login:
    path = Path(value)
    if len(value) >= LONGEST_PATH or not path.is_file():
        return Login("KAGGLE_API_TOKEN", value)
    token = _text(path)
    if not token:
        raise _unusable(f"KAGGLE_API_TOKEN names the file {path}, which is empty", THREE_WAYS)
    return Login(f"the file that KAGGLE_API_TOKEN names ({path})", token)


def _key_file(environ: Mapping[str, str], home: Path) -> Path:
    """Where Kaggle's client looks."""
    if environ.get("KAGGLE_CONFIG_DIR"):
        return Path(environ["KAGGLE_CONFIG_DIR"]) / "kaggle.json"
    usual, config = home / ".kaggle" / "kaggle.json", Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return usual if usual.exists() else config / "kaggle" / "kaggle.json"


def _of_file(path: Path, user: str, key: str, other_user: str, other_key: str) -> Login:
    """A variable beside the file may not be of somebody else: Kaggle's client would mix the two."""
    if other_user not in ("", user) or other_key not in ("", key):
        variable = "KAGGLE_USERNAME" if other_user not in ("", user) else "KAGGLE_KEY"
        raise _unusable(
            f"{variable} is not that of {path}: together they are nobody's", f"unset {variable}, or set both"
        )
    return Login(str(path), key, user)


def _oauth(path: Path) -> Iterator[Login]:
    values = _json(path)
    refresh, access = values.get("refresh_token"), values.get("access_token")
    if isinstance(refresh, str) and refresh:
        fresh = isinstance(access, str) and _lasts(values.get("access_token_expiration"))
        yield Login("~/.kaggle/credentials.json", str(access) if fresh else "", refresh=refresh)


def _lasts(expiration: object) -> bool:
    """Whether an access token is good for longer than a moment; UTC where the time names no zone."""
    try:
        moment = dt.datetime.fromisoformat(str(expiration))
    except ValueError:
        return False
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return moment > dt.datetime.now(dt.UTC) + EXPIRES_SOON


def _json(path: Path) -> Mapping[str, object]:
    text = _text(path)
    try:
        values = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise _unusable(f"{path} is not the JSON that Kaggle wrote", f"remove it, then {THREE_WAYS}")
    return values


def _text(path: Path) -> str:
    """The file's text, stripped; "" where there is none."""
    if not path.exists():
        return ""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise _unusable(f"{path} is too large for credentials", THREE_WAYS)
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise _unusable(
            f"{path} cannot be read: {reason}", "give this user the right to read it, or remove it"
        ) from error


def _unusable(message: str, hint: str) -> InputInvalid:
    return InputInvalid("M415", message, hint=hint)
