"""Which of this machine's credentials the driver takes, in words of its own: G203 for what contradicts, G204 for none at all.

In: what :mod:`engine.protocol.kaggle_logins` finds, and whose notebook it is. Out: one login.

    logins = logins_here(os.environ)
    choose(logins, owner="someone")
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import InputInvalid
from engine.protocol.kaggle_logins import THREE_WAYS, KaggleLogin, UnusableLogin, check_same_user, find_logins


def logins_here(environ: Mapping[str, str]) -> list[KaggleLogin]:
    """Every kind that is there. Raises InputInvalid G203 for one that contradicts itself, or cannot be read."""
    try:
        return find_logins(environ)
    except UnusableLogin as error:
        raise _unusable(error) from error


def choose(logins: list[KaggleLogin], owner: str | None = None) -> KaggleLogin:
    """The first; of several the first that is known to be ``owner``'s. Raises InputInvalid G204 without any."""
    if not logins:
        raise InputInvalid("G204", "there are no credentials for Kaggle on this machine", hint=THREE_WAYS)
    return next((login for login in logins if owner and login.user == owner), logins[0])


def check_agreement(logins: list[KaggleLogin], user: str, owner: str | None) -> None:
    """Raises InputInvalid G203 where other credentials here are another user's, and nothing says whose the notebook is."""
    if owner == user:
        return
    try:
        check_same_user(logins, user, ", or say whose notebook it is: --notebook OWNER/SLUG")
    except UnusableLogin as error:
        raise _unusable(error) from error


def _unusable(error: UnusableLogin) -> InputInvalid:
    return InputInvalid("G203", str(error), hint=error.hint)
