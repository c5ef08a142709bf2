"""What goes over the wire, as values: a request that came in, an answer to it, an error, the record of both.

>>> json_reply({"status": "QUEUED"}).body
b'{"status": "QUEUED"}'
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Incoming:
    """A request. ``operation`` is the last part of an RPC's name, or the name of one of the other doors."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    operation: str
    arguments: tuple[str, ...] = ()

    @property
    def json(self) -> Json:
        """The body as an object; 400 where it is none."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            raise ApiError(400, "Invalid JSON payload received") from None
        if not isinstance(found, dict):
            raise ApiError(400, "Invalid JSON payload received")
        return found

    @property
    def origin(self) -> str:
        """The address that the client called: links in answers begin with it, through a proxy too."""
        return f"http://{self.headers.get('host', 'localhost')}"


@dataclass
class Reply:
    """An answer. ``chunks``: sent as they come; ``cut``: the connection is closed after so many bytes of the body; ``drip``: seconds after each piece."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    chunks: Iterator[bytes] | None = None
    cut: int | None = None
    drip: float = 0.0

    @property
    def json(self) -> Json:
        """The body as an object."""
        found: Json = json.loads(self.body)
        return found


Go: TypeAlias = Callable[[], Reply]


class StreamCut(Exception):
    """Raised by an answer's chunks: the connection breaks here."""


class ApiError(Exception):
    """An error as the API answers it: ``{"code": N, "message": …}`` with HTTP status N."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})

    def reply(self) -> Reply:
        """On the wire."""
        return json_reply({"code": self.status, "message": self.message}, self.status, self.headers)


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer of JSON."""
    return Reply(status, json.dumps(value).encode(), headers=dict(headers or {}))


def html_reply(status: int, title: str) -> Reply:
    """A page for a person, where a client expects JSON."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), "text/html; charset=utf-8")


@dataclass(frozen=True)
class Recorded:
    """A request with its answer's status, secrets redacted; ``failures``: the names of those that had a hand in it."""

    method: str
    path: str
    operation: str
    auth: str
    body: Any
    headers: Mapping[str, str]
    status: int
    failures: tuple[str, ...] = ()
