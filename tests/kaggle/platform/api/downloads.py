"""Signed addresses: `Range`, `If-Range`, `ETag`, `Last-Modified` and the digest that object stores send along."""

from __future__ import annotations

import base64
import re

from tests.kaggle.platform.api.calls import Call, Handlers
from tests.kaggle.platform.web.messages import Reply
from tests.kaggle.platform.world.clock import http_date
from tests.kaggle.platform.world.files import StoredFile

EXPIRED = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code><Message>Invalid argument.</Message></Error>"


def refused() -> Reply:
    """What an object store says to a signature that is wrong or too old: a page, not a file."""
    return Reply(403, EXPIRED, "application/xml; charset=UTF-8")


def file_headers(file: StoredFile) -> dict[str, str]:
    """Everything by which a client may know the file again."""
    return {
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.md5.hex()}"',
        "Last-Modified": http_date(file.modified),
        "x-goog-hash": f"md5={base64.b64encode(file.md5).decode()}",
    }


def _linked(call: Call) -> StoredFile | None:
    known = call.world.links.get(call.incoming.query.get("sig", ""))
    return None if known is None or known[1] <= call.world.clock.now() else known[0]


def whole_file(call: Call) -> Reply:
    """All of it, whatever range is asked for."""
    file = _linked(call)
    return refused() if file is None else Reply(200, file.read(), "application/octet-stream", file_headers(file))


def download(call: Call) -> Reply:
    """The file, or the part that is asked for where `If-Range` still holds."""
    file = _linked(call)
    if file is None:
        return refused()
    content, headers = file.read(), file_headers(file)
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", call.incoming.headers.get("range", ""))
    unchanged = call.incoming.headers.get("if-range") in (None, headers["ETag"], headers["Last-Modified"])
    if asked is None or not unchanged:
        return whole_file(call)
    start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
    if start > end:
        return Reply(416, b"", "", {"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
    return Reply(206, content[start : end + 1], "application/octet-stream", headers)


HANDLERS: Handlers = {"Download": download}
