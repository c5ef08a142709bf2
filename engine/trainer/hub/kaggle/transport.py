"""One HTTP request with a time-out, as the rest of a fetch needs it: no redirect is followed, no error of a library gets out.

In: an address, headers, perhaps a body. Out: the open response, or :class:`Answered` for any status that is no success, ConnectionError or
TimeoutError for no answer. Proxies and certificates are those of the environment.

    with opened(request("https://api.kaggle.com/v1/…", {"Accept": "application/json"}, b"{}")) as response:
        response.head.status_code, response.read(100)
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any

from engine.trainer.hub.cache import PIECE

SECONDS = 30.0  # without a byte


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers, by the names under which the retry policy looks for them."""

    status_code: int
    headers: Mapping[str, str]


class Answered(Exception):
    """An answer that is not the one that was asked for."""

    def __init__(self, head: ResponseHead) -> None:
        super().__init__(f"HTTP {head.status_code}")
        self.response = head


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A redirect is an answer to be looked at: the next address must not get credentials."""


_OPENER = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True, slots=True)
class Response:
    """An open answer."""

    head: ResponseHead
    stream: http.client.HTTPResponse

    def read(self, most: int) -> bytes:
        """The next bytes, ``most`` at most. Raises ConnectionError, TimeoutError."""
        with _as_connection_errors():
            return self.stream.read(most)

    def chunks(self) -> Iterator[bytes]:
        """All that is left."""
        while piece := self.read(PIECE):
            yield piece


def request(address: str, headers: Mapping[str, str], body: bytes | None = None) -> urllib.request.Request:
    """A GET, or a POST of a body. Addresses are http or https: the caller has looked at them."""
    return urllib.request.Request(address, body, dict(headers))  # noqa: S310


@contextmanager
def opened(asked: urllib.request.Request) -> Iterator[Response]:
    """The answer, closed at the end of the block. Raises Answered, ConnectionError, TimeoutError."""
    with _as_connection_errors():
        try:
            stream = _OPENER.open(asked, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                head = ResponseHead(error.code, _plain(error.headers))
            raise Answered(head) from None
    with stream:
        yield Response(ResponseHead(stream.status, _plain(stream.headers)), stream)


@contextmanager
def _as_connection_errors() -> Iterator[None]:
    """What a broken connection raises, by two of Python's own names; the others hold the request."""
    try:
        yield
    except TimeoutError:
        raise TimeoutError("no byte for too long") from None
    except urllib.error.URLError as error:
        kind = TimeoutError if isinstance(error.reason, TimeoutError) else ConnectionError
        raise kind(type(error.reason).__name__) from None
    except (http.client.HTTPException, OSError) as error:
        raise ConnectionError(type(error).__name__) from None


def _plain(headers: Message) -> dict[str, str]:
    """Lower-case name -> value; several of one name joined, as HTTP reads them. ``Retry-After`` also as it is spelt there."""
    named: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        named[key] = f"{named[key]}, {value}" if key in named else value
    return named | ({"Retry-After": named["retry-after"]} if "retry-after" in named else {})
