"""The record of every request, without its secrets.

>>> redacted({"token": "abc", "name": "x"})
{'token': '<redacted>', 'name': 'x'}
"""

from __future__ import annotations

import json
from typing import Any

from tests.kaggle.platform.web.messages import Incoming, Recorded, Reply

REDACTED = "<redacted>"
SECRET_KEYS = frozenset({"token", "refreshToken", "refresh_token", "secret", "createUrl"})
# Headers that say how a client speaks; the others stay out of the record.
KEPT_HEADERS = ("user-agent", "accept", "content-type", "range", "if-range", "content-range")


def redacted(value: Any) -> Any:
    """The same JSON with its secrets taken out."""
    if isinstance(value, dict):
        return {key: REDACTED if key in SECRET_KEYS else redacted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner) for inner in value]
    return value


def _body(incoming: Incoming) -> Any:
    if incoming.method in ("PUT", "GET", "HEAD"):
        return f"{len(incoming.body)} bytes" if incoming.body else None
    try:
        return redacted(json.loads(incoming.body or b"null"))
    except ValueError:
        return f"{len(incoming.body)} bytes that are not JSON"


def _auth(headers: dict[str, str]) -> str:
    kind = headers.get("authorization", "").partition(" ")[0]
    if not kind and "x-kaggle-authorization" in headers:
        kind = "X-Kaggle-Authorization"
    return f"<redacted:{kind}>" if kind else "none"


def recorded(incoming: Incoming, reply: Reply, failures: tuple[str, ...]) -> Recorded:
    """A request as it is kept."""
    query = "&".join(f"{key}={REDACTED if key == 'sig' else value}" for key, value in incoming.query.items())
    headers = dict(incoming.headers)
    return Recorded(
        method=incoming.method,
        path=f"{incoming.path}?{query}" if query else incoming.path,
        operation=incoming.operation,
        auth=_auth(headers),
        body=_body(incoming),
        headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
        status=reply.status,
        failures=failures,
    )
