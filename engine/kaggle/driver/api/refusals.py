"""A refusal as an error that says what was wanted, what the platform said, and what helps: 401, 403 and 404 are three errors.

In: a :class:`Refusal` and what was wanted. Out: RemoteRefused (exit 8).

    >>> explained(Refusal("missing", 404, "Not found"), "someone/my-run, version 3").code
    'G207'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import RemoteRefused
from engine.kaggle.driver.api.answers import Refusal
from engine.protocol.kaggle_logins import KaggleLogin

_AGAIN = "type the same command again later: it resumes where it stopped"


def explained(refusal: Refusal, wanted: str, login: KaggleLogin | None = None) -> RemoteRefused:
    """The error. ``wanted``: the thing that was asked for."""
    told = login.hide(str(refusal)) if login else str(refusal)
    source = f" from {login}" if login else ""
    match refusal.kind:
        case "credentials":
            return RemoteRefused(
                "G205",
                f"Kaggle no longer takes the credentials{source} ({told})",
                hint="give new ones (Settings > API on kaggle.com), then type the same command again: what runs on Kaggle goes on",
            )
        case "forbidden":
            return RemoteRefused(
                "G206",
                f"the credentials{source} may not see {wanted} ({told})",
                hint="it is private to somebody else, was deleted, or its name is another: compare it with the address on kaggle.com/code",
            )
        case "missing":
            return RemoteRefused(
                "G207", f"Kaggle has no {wanted} ({told})", hint="it was deleted there, or its name is another"
            )
        case "limited":
            return RemoteRefused("G211", f"Kaggle asks for patience with {wanted} ({told})", hint=_AGAIN)
        case "server" | "unreachable":
            return RemoteRefused("G208", f"Kaggle does not answer for {wanted}: {told}", hint=_AGAIN)
        case "unreadable":
            return RemoteRefused("G209", f"Kaggle's answer for {wanted} cannot be used: {told}", hint=_AGAIN)
        case "rejected":
            return RemoteRefused("G210", f"Kaggle refuses {wanted}: {told}")


@contextmanager
def explaining(wanted: str, login: KaggleLogin | None = None) -> Iterator[None]:
    """Turn a refusal of the block into the error."""
    try:
        yield
    except Refusal as refusal:
        raise explained(refusal, wanted, login) from refusal
