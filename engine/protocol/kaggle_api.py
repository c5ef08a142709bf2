"""Where Kaggle's API is: the platform's own address; in tests a server on this machine, and never another one.

In: ``RUNSPEC_KAGGLE_API``. Out: an :class:`ApiAddress`, which driver and trainer share. The client's own variables for other hosts are not
read: credentials go to Kaggle, or do not leave this machine.

    >>> api_address({}).base, api_address({"RUNSPEC_KAGGLE_API": "http://127.0.0.1:8080/api/v1"}).is_kaggle
    ('https://api.kaggle.com/v1', False)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

API_VARIABLE = "RUNSPEC_KAGGLE_API"
PRODUCTION = "https://api.kaggle.com/v1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ForeignAddress(ValueError):
    """The variable names another machine. ``hint``: what helps."""

    hint = f"unset {API_VARIABLE}: Kaggle's own address is the default"

    def __init__(self) -> None:
        super().__init__(
            f"{API_VARIABLE} is for a server on this machine, and names another: your credentials would go there"
        )


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """``base``: what stands before ``/SERVICE/Method``."""

    base: str = PRODUCTION

    @property
    def is_kaggle(self) -> bool:
        """Whether it is the platform itself, and not a server on this machine."""
        return self.base == PRODUCTION

    def allows(self, url: str) -> bool:
        """Whether a file may be fetched from there, as an answer says: https; with a server on this machine, from this machine alone.

        >>> ApiAddress().allows("http://127.0.0.1/x"), ApiAddress("http://127.0.0.1/api/v1").allows("https://storage.example/x")
        (False, False)
        """
        if not self.is_kaggle:
            return _is_here(url)
        try:
            parts = urlsplit(url)
            return parts.scheme == "https" and bool(parts.hostname)
        except ValueError:
            return False


def api_address(environ: Mapping[str, str]) -> ApiAddress:
    """Raises ForeignAddress where the variable names another machine."""
    base = environ.get(API_VARIABLE, "").rstrip("/")
    if not base:
        return ApiAddress()
    if not _is_here(base):
        raise ForeignAddress
    return ApiAddress(base)


def _is_here(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and parts.hostname in LOOPBACK and not parts.username
    except ValueError:
        return False
