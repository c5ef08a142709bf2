"""Who asks Kaggle: credentials found in the order of Kaggle's own client, with the place named, and contradictions told.

In: the environment, whose ``HOME`` has the files. Out: every :class:`KaggleLogin` that is there, the one that counts first, or
:class:`UnusableLogin`, which driver and trainer give their code. The order: ``KAGGLE_API_TOKEN`` (a token or the path of a file),
``~/.kaggle/access_token``, ``KAGGLE_USERNAME`` with ``KAGGLE_KEY`` or ``kaggle.json``, ``~/.kaggle/credentials.json`` (``kaggle auth login``).
Kaggle's client falls silently from a refused kind to the next; here the first one counts, and a refusal names it.

    >>> (found,) = find_logins({"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": "0123456789abcdef", "HOME": "/nowhere"})
    >>> str(found), found.header(), "0123" in repr(found)
    ('KAGGLE_USERNAME and KAGGLE_KEY', 'Basic c29tZW9uZTowMTIzNDU2Nzg5YWJjZGVm', False)
"""

from __future__ import annotations

import datetime as dt
import json
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.os_errors import hint_for
from engine.redact import MASK

Kind = Literal["token", "key", "oauth"]
EXPIRES_SOON_SECONDS = 300.0
LARGEST_FILE = 1 << 16
LONGEST_PATH = 1024
THREE_WAYS = """one of:
a token: on kaggle.com, Settings > API > Generate New Token; then export KAGGLE_API_TOKEN=…, or put it into ~/.kaggle/access_token
a key: Settings > API > Create Legacy API Key; put the kaggle.json that it gives into ~/.kaggle/
in the browser: pip install kaggle, then kaggle auth login"""


class UnusableLogin(ValueError):
    """Credentials that contradict each other or cannot be read. ``hint``: what helps."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class KaggleLogin:
    """``source`` says where it was found. ``user`` is None until the platform has said whose token it is."""

    kind: Kind
    source: str
    secret: str = field(default="", repr=False)
    user: str | None = None
    refresh: str = field(default="", repr=False)
    expires_at: float | None = None  # of an OAuth access token, seconds since 1970

    def __str__(self) -> str:
        return self.source

    def header(self) -> str:
        """The value of ``Authorization``."""
        if self.kind != "key":
            return f"Bearer {self.secret}"
        return f"Basic {b64encode(f'{self.user}:{self.secret}'.encode()).decode()}"

    def has_expired(self, now: float) -> bool:
        """Whether an access token must be renewed before it is used: the end is near, or behind us, or not known."""
        if self.kind != "oauth":
            return False
        return not self.secret or self.expires_at is None or self.expires_at <= now + EXPIRES_SOON_SECONDS

    def hide(self, text: str) -> str:
        """The text without this secret: what stands in a file is not among the values that engine.redact knows."""
        for secret in (self.secret, self.refresh):
            text = text.replace(secret, MASK) if len(secret) >= 8 else text
        return text


def find_logins(environ: Mapping[str, str]) -> list[KaggleLogin]:
    """Every kind that is there, the one that counts first. Raises UnusableLogin for one that contradicts itself, or cannot be read."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - Path.home() reads no other environment
    token = _token(environ, home)
    found = [token, _key(environ, home, is_first=token is None), _oauth(home)]
    return [login for login in found if login is not None]


def check_same_user(logins: Sequence[KaggleLogin], user: str, another_way: str = "") -> None:
    """Raises UnusableLogin where other credentials here are not those of ``user``, the owner of the first ones.

    >>> check_same_user([KaggleLogin("token", "KAGGLE_API_TOKEN"), KaggleLogin("key", "kaggle.json", user="bob")], "ann")
    Traceback (most recent call last):
        ...
    engine.protocol.kaggle_logins.UnusableLogin: the credentials here are of different users: ann (KAGGLE_API_TOKEN) and bob (kaggle.json)
    """
    others = [f"{login.user} ({login})" for login in logins if login.user not in (None, user)]
    if others:
        raise UnusableLogin(
            f"the credentials here are of different users: {user} ({logins[0]}) and {', '.join(others)}",
            f"remove or unset one of them{another_way}",
        )


def _token(environ: Mapping[str, str], home: Path) -> KaggleLogin | None:
    value = environ.get("KAGGLE_API_TOKEN", "").strip()
    if value:
        path = Path(value)
        if not _is_file(path):
            return KaggleLogin("token", "KAGGLE_API_TOKEN", value)
        if not (text := _text(path)):
            raise UnusableLogin(f"KAGGLE_API_TOKEN names the file {path}, which is empty", THREE_WAYS)
        return KaggleLogin("token", f"the file that KAGGLE_API_TOKEN names ({path})", text)
    for name in ("access_token", "access_token.txt"):
        if text := _text(home / ".kaggle" / name):
            return KaggleLogin("token", f"~/.kaggle/{name}", text)
    return None


def _is_file(path: Path) -> bool:
    """Whether a value is the path of a file; a token, which may be longer than a name of a file, is none."""
    try:
        return len(str(path)) < LONGEST_PATH and path.is_file()
    except OSError:
        return False


def _key(environ: Mapping[str, str], home: Path, *, is_first: bool) -> KaggleLogin | None:
    """Username and key, both from the environment or both from the file: a mixture of two people's is refused.

    Half a pair without a file is told where nothing comes before it (``is_first``), instead of the next kind taken.
    """
    path = _config_folder(environ, home) / "kaggle.json"
    values = _json(path)
    user, key = (environ.get(f"KAGGLE_{name}", "").strip() for name in ("USERNAME", "KEY"))
    if user and key:
        return KaggleLogin("key", "KAGGLE_USERNAME and KAGGLE_KEY", key, user)
    in_file = values.get("username"), values.get("key")
    if all(isinstance(value, str) and value for value in in_file):
        return _of_file(path, str(in_file[0]), str(in_file[1]), user, key)
    if is_first and (user or key):
        given, missing = ("KAGGLE_USERNAME", "KAGGLE_KEY") if user else ("KAGGLE_KEY", "KAGGLE_USERNAME")
        raise UnusableLogin(f"{given} is set, and {missing} is not", "set both, or none")
    return None


def _of_file(path: Path, user: str, key: str, other_user: str, other_key: str) -> KaggleLogin:
    """The file's pair. A variable beside it may not be of somebody else: Kaggle's client would mix the two."""
    if other_user not in ("", user):
        raise UnusableLogin(
            f"KAGGLE_USERNAME says {other_user}, and {path} has the key of {user}: together they are nobody's",
            "unset KAGGLE_USERNAME, or set KAGGLE_KEY too",
        )
    if other_key not in ("", key):
        raise UnusableLogin(
            f"KAGGLE_KEY is set beside the username and another key in {path}",
            "set KAGGLE_USERNAME too, or unset KAGGLE_KEY",
        )
    return KaggleLogin("key", str(path), key, user)


def _config_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where Kaggle's client looks for kaggle.json."""
    if environ.get("KAGGLE_CONFIG_DIR"):
        return Path(environ["KAGGLE_CONFIG_DIR"])
    folder = home / ".kaggle"
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
    return folder if _is_file(folder / "kaggle.json") or not _is_file(config / "kaggle.json") else config


def _oauth(home: Path) -> KaggleLogin | None:
    """``kaggle auth login`` wrote it. Without a refresh token it says nothing."""
    values = _json(home / ".kaggle" / "credentials.json")
    refresh, access, user = (values.get(name) for name in ("refresh_token", "access_token", "username"))
    if not isinstance(refresh, str) or not refresh:
        return None
    expires = _epoch(values.get("access_token_expiration"))
    return KaggleLogin(
        "oauth", "~/.kaggle/credentials.json", str(access or ""), str(user or "") or None, refresh, expires
    )


def _epoch(value: object) -> float | None:
    """ISO 8601, of UTC where it names no zone."""
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _json(path: Path) -> Mapping[str, object]:
    text = _text(path)
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UnusableLogin(f"{path} is not the JSON that Kaggle wrote", f"remove it, then\n{THREE_WAYS}")
    return values


def _text(path: Path) -> str:
    """The file's text, stripped; "" where there is none."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UnusableLogin(f"{path} is too large for credentials", THREE_WAYS)
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        hint = hint_for(getattr(error, "errno", None)) or "give this user the right to read it, or remove it"
        raise UnusableLogin(f"{path} cannot be read: {reason}", hint) from error
