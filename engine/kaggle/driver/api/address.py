"""Where the API is: Kaggle's own address; in tests a server on this machine, and never another one.

In: ``RUNSPEC_KAGGLE_API``. Out: an :class:`Address`. The client's own variables for other hosts are not read: credentials go to
Kaggle, or do not leave this machine.

    >>> address_of({}).base, address_of({"RUNSPEC_KAGGLE_API": "http://127.0.0.1:8080/api/v1"}).is_kaggle
    ('https://api.kaggle.com/v1', False)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.errors import InputInvalid

VARIABLE = "RUNSPEC_KAGGLE_API"
PRODUCTION = "https://api.kaggle.com/v1"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Address:
    """``base``: what stands before ``/SERVICE/Method``."""

    base: str

    @property
    def is_kaggle(self) -> bool:
        """Whether it is the platform itself, and not a server on this machine."""
        return self.base == PRODUCTION

    def allows(self, url: str) -> bool:
        """Whether a file may be fetched from there, as an answer says: https; with a server on this machine, from this machine alone."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        if self.is_kaggle:
            return parts.scheme == "https" and bool(parts.hostname)
        return parts.scheme == "http" and parts.hostname in _LOOPBACK


def address_of(environ: Mapping[str, str]) -> Address:
    """Raises InputInvalid G201 where the variable names another machine."""
    base = environ.get(VARIABLE, "").rstrip("/")
    if not base:
        return Address(PRODUCTION)
    try:
        parts = urlsplit(base)
        is_here = parts.scheme == "http" and parts.hostname in _LOOPBACK and not parts.username
    except ValueError:
        is_here = False
    if not is_here:
        raise InputInvalid(
            "G201",
            f"{VARIABLE} is for a server on this machine, and names another: your credentials would go there",
            hint=f"unset {VARIABLE}: Kaggle's own address is the default",
        )
    return Address(base)
