"""Pages: 20 entries unless asked for more, never more than 200; the token says where the next page begins.

>>> page(list("abc"), {"pageSize": 2})
(['a', 'b'], 'p2')
>>> page(list("abc"), {"pageSize": 2, "pageToken": "p2"})
(['c'], '')
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tests.kaggle.platform.web.messages import ApiError, Json

USUAL_PAGE, LARGEST_PAGE = 20, 200
T = TypeVar("T")


def page(entries: Sequence[T], body: Json) -> tuple[list[T], str]:
    """The page that is asked for and the token of the next; 400 for a token that nobody was given."""
    size = min(body.get("pageSize") or USUAL_PAGE, LARGEST_PAGE)
    token = body.get("pageToken") or "p0"
    if not (token.startswith("p") and token[1:].isdecimal()):
        raise ApiError(400, "Invalid page token")
    start = int(token[1:])
    after = start + size
    return list(entries[start:after]), f"p{after}" if after < len(entries) else ""
