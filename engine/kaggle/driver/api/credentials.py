"""Who types: credentials found in the order of Kaggle's own client, with the place named, and contradictions told.

In: the environment and the home folder. Out: a :class:`KaggleLogin`, or InputInvalid with three ways to give one. The order: ``KAGGLE_API_TOKEN`` (a
token or the path of a file), ``~/.kaggle/access_token``, ``KAGGLE_USERNAME`` with ``KAGGLE_KEY`` or ``kaggle.json``, ``~/.kaggle/credentials.json``
(``kaggle auth login``). Kaggle's client falls silently from a refused kind to the next; here the first one counts, and a refusal names it.

    >>> found = KaggleLogin("token", "KAGGLE_API_TOKEN", secret="KGAT_0123456789abcdef")
    >>> str(found), "KGAT" in repr(found)
    ('KAGGLE_API_TOKEN', False)
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.canonical import JsonObject
from engine.errors import InputInvalid
from engine.os_errors import hint_for
from engine.redact import MASK

Kind = Literal["token", "key", "oauth"]
EXPIRES_SOON_SECONDS = 300.0
LARGEST_FILE = 1 << 16
THREE_WAYS = """one of:
a token: on kaggle.com, Settings > API > Generate New Token; then export KAGGLE_API_TOKEN=…, or put it into ~/.kaggle/access_token
a key: Settings > API > Create Legacy API Key; put the kaggle.json that it gives into ~/.kaggle/
in the browser: pip install kaggle, then kaggle auth login"""


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


def find_logins(environ: Mapping[str, str], home: Path) -> list[KaggleLogin]:
    """Every kind that is there, the one that counts first. Raises InputInvalid G203 for one that contradicts itself."""
    found = [_token(environ, home), _key(environ, home), _oauth(home)]
    return [login for login in found if login is not None]


def choose(logins: list[KaggleLogin], owner: str | None = None) -> KaggleLogin:
    """The first; of several the first that is known to be ``owner``'s. Raises InputInvalid G204 without any."""
    if not logins:
        raise InputInvalid("G204", "there are no credentials for Kaggle on this machine", hint=THREE_WAYS)
    return next((login for login in logins if owner and login.user == owner), logins[0])


def check_agreement(logins: list[KaggleLogin], user: str, owner: str | None) -> None:
    """Raises InputInvalid G203 where other credentials here are another user's, and nothing says whose the notebook is."""
    others = [f"{login.user} ({login})" for login in logins if login.user not in (None, user)]
    if others and owner != user:
        raise InputInvalid(
            "G203",
            f"the credentials here are of different users: {user} ({logins[0]}) and {', '.join(others)}",
            hint="remove or unset one of them, or say whose notebook it is: --notebook OWNER/SLUG",
        )


def _token(environ: Mapping[str, str], home: Path) -> KaggleLogin | None:
    value = environ.get("KAGGLE_API_TOKEN", "").strip()
    if value:
        path = Path(value)
        if len(value) < 1024 and path.exists():
            text = _text(path).strip()
            if not text:
                raise InputInvalid("G203", f"KAGGLE_API_TOKEN names the file {path}, which is empty", hint=THREE_WAYS)
            return KaggleLogin("token", f"the file that KAGGLE_API_TOKEN names ({path})", text)
        return KaggleLogin("token", "KAGGLE_API_TOKEN", value)
    for name in ("access_token", "access_token.txt"):
        path = home / ".kaggle" / name
        if path.exists() and (text := _text(path).strip()):
            return KaggleLogin("token", f"~/.kaggle/{name}", text)
    return None


def _key(environ: Mapping[str, str], home: Path) -> KaggleLogin | None:
    """Username and key, both from the environment or both from the file: a mixture of two people's is refused."""
    path = _config_folder(environ, home) / "kaggle.json"
    values = _json(path) if path.exists() else {}
    user, key = (environ.get(f"KAGGLE_{name}", "") for name in ("USERNAME", "KEY"))
    if user and key:
        return KaggleLogin("key", "KAGGLE_USERNAME and KAGGLE_KEY", key, user)
    in_file = str(values.get("username", "")), str(values.get("key", ""))
    if user and in_file[0] and user != in_file[0]:
        raise InputInvalid(
            "G203",
            f"KAGGLE_USERNAME says {user}, and {path} has the key of {in_file[0]}: together they are nobody's",
            hint="unset KAGGLE_USERNAME, or set KAGGLE_KEY too",
        )
    if key and not in_file[0]:
        raise InputInvalid("G203", "KAGGLE_KEY is set, and KAGGLE_USERNAME is not", hint="set both, or none")
    if key and key != in_file[1]:
        raise InputInvalid("G203", f"KAGGLE_KEY is set beside the username and another key in {path}",
                           hint="set KAGGLE_USERNAME too, or unset KAGGLE_KEY")  # fmt: skip
    return KaggleLogin("key", str(path), in_file[1], in_file[0]) if all(in_file) else None


def _config_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where Kaggle's client looks for kaggle.json."""
    if environ.get("KAGGLE_CONFIG_DIR"):
        return Path(environ["KAGGLE_CONFIG_DIR"])
    folder = home / ".kaggle"
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
    return folder if (folder / "kaggle.json").exists() or not config.exists() else config


def _oauth(home: Path) -> KaggleLogin | None:
    """``kaggle auth login`` wrote it. Without a refresh token it says nothing."""
    path = home / ".kaggle" / "credentials.json"
    values = _json(path) if path.exists() else {}
    refresh = values.get("refresh_token")
    if not isinstance(refresh, str) or not refresh:
        return None
    access, user = values.get("access_token") or "", values.get("username") or None
    expires = _epoch(values.get("access_token_expiration"))
    return KaggleLogin("oauth", "~/.kaggle/credentials.json", str(access), user and str(user), refresh, expires)


def _epoch(value: object) -> float | None:
    """ISO 8601, of UTC where it names no zone."""
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _json(path: Path) -> JsonObject:
    try:
        values = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InputInvalid("G203", f"{path} is not the JSON that Kaggle wrote", hint=f"remove it, then\n{THREE_WAYS}")
    return values


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputInvalid("G203", f"{path} is no file of credentials: it is too large", hint=THREE_WAYS)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        hint = hint_for(getattr(error, "errno", None)) or "give this user the right to read it, or remove it"
        raise InputInvalid("G203", f"{path} cannot be read: {reason}", hint=hint) from error


def home_of(environ: Mapping[str, str]) -> Path:
    """The home folder, as ``~`` means it."""
    return Path(environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 - Path.home() does not read another environment
