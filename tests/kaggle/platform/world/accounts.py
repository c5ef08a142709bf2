"""Who may ask: users, access tokens, keys, OAuth. All values are made up and remembered, so that a test can look for them.

>>> accounts = Accounts(Clock())
>>> accounts.add_user("someone")
>>> accounts.identity(f"Bearer {accounts.token('someone')}").user
'someone'
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.kaggle.platform.web.messages import ApiError
from tests.kaggle.platform.world.clock import Clock


@dataclass(frozen=True)
class Identity:
    """The user that a request speaks for (None: anonymous), and by which kind of credential."""

    user: str | None
    kind: str

    def required(self) -> str:
        """The user; 401 without one."""
        if self.user is None:
            raise ApiError(401, "Unauthenticated")
        return self.user


@dataclass
class AccessToken:
    """What a bearer token stands for. ``expires``: OAuth's do."""

    user: str
    expires: datetime | None = None


class Accounts:
    """Users and everything that was ever issued to them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._users: dict[str, int] = {}
        self._tokens: dict[str, AccessToken] = {}
        self._keys: dict[str, str] = {}
        self._refresh: dict[str, str] = {}
        self.issued: set[str] = set()

    def add_user(self, name: str) -> None:
        """A user with a number."""
        self._users.setdefault(name, len(self._users) + 1)

    def secret(self, prefix: str) -> str:
        """A new secret, remembered as such."""
        made = f"{prefix}-{secrets.token_hex(16)}"
        self.issued.add(made)
        return made

    def token(self, user: str, *, seconds: float | None = None) -> str:
        """A new access token, for ever or for so long."""
        made = self.secret("loopback-token")
        expires = None if seconds is None else self._clock.now() + timedelta(seconds=seconds)
        self._tokens[made] = AccessToken(user, expires)
        return made

    def key(self, user: str) -> str:
        """The user's key, for `kaggle.json`."""
        if user not in self._keys:
            self._keys[user] = self.secret("loopback-key")
        return self._keys[user]

    def oauth(self, user: str, *, seconds: float = 12 * 3600) -> dict[str, Any]:
        """What `kaggle auth login` leaves in credentials.json. Negative seconds: a token that expired so long ago."""
        refresh = self.secret("loopback-refresh")
        self._refresh[refresh] = user
        token = self.token(user, seconds=seconds)
        expires = self._tokens[token].expires
        assert expires is not None
        return {
            "refresh_token": refresh,
            "access_token": token,
            "access_token_expiration": expires.isoformat(),
            "username": user,
            "scopes": [],
        }

    def identity(self, authorization: str | None) -> Identity:
        """Who an `Authorization` header speaks for; 401 for one that nobody was given or that is past its time."""
        if not authorization:
            return Identity(None, "none")
        kind, _, value = authorization.partition(" ")
        if kind == "Bearer":
            found = self._valid(value)
            user = found.user if found else None
        else:
            user = self._of_key(value) if kind == "Basic" else None
        if user is None:
            raise ApiError(401, "Unauthenticated")
        return Identity(user, kind)

    def _valid(self, token: str) -> AccessToken | None:
        found = self._tokens.get(token)
        late = found and found.expires is not None and found.expires <= self._clock.now()
        return None if late else found

    def _of_key(self, value: str) -> str | None:
        try:
            user, _, key = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user if self._keys.get(user) == key else None

    def introspect(self, token: str) -> dict[str, Any]:
        """The answer of IntrospectToken."""
        found = self._valid(token)
        if found is None:
            return {"active": False}
        return {"active": True, "username": found.user, "userId": self._users[found.user]}

    def refreshed(self, refresh_token: str, seconds: float) -> dict[str, Any]:
        """The answer of GenerateAccessToken; 401 for a refresh token that nobody was given."""
        user = self._refresh.get(refresh_token)
        if user is None:
            raise ApiError(401, "Unauthenticated")
        token = self.token(user, seconds=seconds)
        return {"token": token, "expiresIn": int(seconds), "userName": user, "userId": self._users[user]}
