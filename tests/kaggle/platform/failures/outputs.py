"""Failures of listings, downloads and logs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.api.downloads import refused
from tests.kaggle.platform.api.logs import END, event
from tests.kaggle.platform.failures.statuses import version_of
from tests.kaggle.platform.failures.table import Collection
from tests.kaggle.platform.web.messages import Go, Json, Reply, html_reply, json_reply
from tests.kaggle.platform.world.clock import http_date
from tests.kaggle.platform.world.files import StoredFile, stored

OUTPUTS = Collection()
LIST, FILES, LOAD, STREAM = "ListKernelSessionOutput", "ListKernelFiles", "Download", "LogStream"


@OUTPUTS.add(LIST, FILES, "DownloadKernelOutput", fact="vanished: an output that was deleted")
def output_vanished(call: Call, go: Go) -> Reply:
    session = version_of(call).session
    if session is not None:
        session.lost = True
    return go()


@OUTPUTS.add(LOAD, fact="error page saved as file: a signed address that has expired still has a body")
def error_page(call: Call, go: Go) -> Reply:
    return refused()


@OUTPUTS.add(LOAD, fact="error page saved as file, here with HTTP 200: only size and digest can tell")
def error_page_with_200(call: Call, go: Go) -> Reply:
    return html_reply(200, "Please try again")


@OUTPUTS.add(LOAD, fact="files with signed urls: the address is past its hour")
def link_expired(call: Call, go: Go) -> Reply:
    call.world.links.pop(call.incoming.query.get("sig", ""), None)
    return go()


def _with_file(call: Call, go: Go, name: str, content: str = "planted") -> Reply:
    """The listing with one more file."""
    answer = go().json
    file = stored("planted", content)
    url = call.world.link(call.incoming.origin, file)
    answer["files"] = [*answer.get("files", []), {"url": url, "fileName": name, "name": name, "size": file.size}]
    return json_reply(answer)


@OUTPUTS.add(LIST, FILES, fact="refuses `../` (exit 1)")
def traversal_name(call: Call, go: Go, *, name: str = "../../planted.txt") -> Reply:
    return _with_file(call, go, name)


@OUTPUTS.add(LIST, FILES, fact="traversal names: an absolute one (exit 1)")
def absolute_name(call: Call, go: Go, *, name: str = "/tmp/planted.txt") -> Reply:
    return _with_file(call, go, name)


@OUTPUTS.add(LIST, FILES, fact="nothing mixed: a name that comes twice, with other bytes")
def name_twice(call: Call, go: Go) -> Reply:
    names = [file.get("fileName") or file.get("name") for file in go().json.get("files", [])]
    return _with_file(call, go, names[0] if names else "twice.txt")


@OUTPUTS.add(LOAD, fact="streamed, Range/If-Range resume: the connection breaks in the middle of a file")
def download_cut(call: Call, go: Go) -> Reply:
    answer = go()
    answer.cut = len(answer.body) // 2 or 1
    return answer


@OUTPUTS.add(LOAD, fact="Range/If-Range resume: a server that ignores the range and sends everything")
def range_ignored(call: Call, go: Go) -> Reply:
    headers = {name: value for name, value in call.incoming.headers.items() if name != "range"}
    object.__setattr__(call.incoming, "headers", headers)
    return go()


@OUTPUTS.add(LOAD, fact="Range/If-Range resume: the file changed meanwhile, `If-Range` does not hold")
def file_changed(call: Call, go: Go) -> Reply:
    known = call.world.links.get(call.incoming.query.get("sig", ""))
    if known is not None:
        file: StoredFile = known[0]
        newer = stored(file.name, file.read()[::-1], file.modified + timedelta(minutes=1))
        call.world.links[call.incoming.query["sig"]] = (newer, known[1])
    return go()


@OUTPUTS.add(
    LOAD, fact="keeps an existing file whose mtime is newer and size not smaller (seen): the remote one is older"
)
def stale_file(call: Call, go: Go) -> Reply:
    answer = go()
    answer.headers["Last-Modified"] = http_date(datetime(2020, 1, 1, tzinfo=UTC))
    return answer


@OUTPUTS.add(LOAD, fact="no ETag, no Last-Modified, no digest: nothing by which to know the file again")
def no_validator(call: Call, go: Go) -> Reply:
    answer = go()
    answer.headers = {name: value for name, value in answer.headers.items() if name == "Content-Range"}
    return answer


@OUTPUTS.add(LOAD, fact="size 0 file: the bytes are gone, the answer is 200")
def empty_file(call: Call, go: Go) -> Reply:
    answer = go()
    answer.body = b""
    return answer


@OUTPUTS.add(LOAD, fact="outputs by our own downloader: digests: one bit is another one")
def corrupt_file(call: Call, go: Go) -> Reply:
    answer = go()
    answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:] if answer.body else b""
    return answer


@OUTPUTS.add(FILES, fact="`ListKernelFiles` (name, size: the only place with sizes): a size that is not the file's")
def wrong_size(call: Call, go: Go, *, by: int = 1) -> Reply:
    answer = go().json
    return json_reply(answer | {"files": [{**file, "size": file["size"] + by} for file in answer["files"]]})


@OUTPUTS.add(LIST, FILES, fact="nextPageToken, pages of 20: the same token for ever")
def page_token_repeats(call: Call, go: Go) -> Reply:
    answer: Json = go().json
    return json_reply(answer | {"nextPageToken": call.body.get("pageToken") or "p1"})


@OUTPUTS.add(
    STREAM, fact="replayed log: on reconnect the stream comes from the beginning; here it is cut after some events"
)
def log_stream_cut(call: Call, go: Go, *, events: int = 2) -> Reply:
    session = (
        call.world.visible(call.user, *call.incoming.arguments).version(call.incoming.query.get("versionLabel")).session
    )
    entries = list(session.log())[:events] if session else []
    return Reply(
        content_type="text/event-stream", body=b"".join(event(entry.json) for entry in entries) + b"data: {", cut=10**9
    )


@OUTPUTS.add(STREAM, fact="replayed log: every event comes twice")
def log_replayed(call: Call, go: Go) -> Reply:
    session = (
        call.world.visible(call.user, *call.incoming.arguments).version(call.incoming.query.get("versionLabel")).session
    )
    entries = [event(entry.json) for entry in session.log()] if session else []
    return Reply(content_type="text/event-stream", body=b"".join([*entries, *entries, END]))


@OUTPUTS.add(STREAM, fact="end `data: END_OF_LOG`: a stream that never says it")
def log_without_end(call: Call, go: Go) -> Reply:
    session = (
        call.world.visible(call.user, *call.incoming.arguments).version(call.incoming.query.get("versionLabel")).session
    )
    entries = [event(entry.json) for entry in session.log()] if session else []
    return Reply(content_type="text/event-stream", body=b"".join(entries))


def _with_log(go: Go, log: bytes, call: Call) -> Reply:
    if call.incoming.operation == STREAM:
        return Reply(body=log)
    return json_reply(go().json | {"log": log.decode(errors="surrogateescape")})


@OUTPUTS.add(LIST, STREAM, fact="whole log as one string: huge")
def log_huge(call: Call, go: Go, *, megabytes: int = 20) -> Reply:
    line = {"stream_name": "stdout", "time": 1.0, "data": "x" * 1023 + "\n"}
    return _with_log(go, json.dumps([line] * (megabytes * 1024)).encode(), call)


@OUTPUTS.add(LIST, STREAM, fact="log: bytes that are not UTF-8")
def log_not_utf8(call: Call, go: Go) -> Reply:
    answer = go()
    text = b'[{"stream_name": "stdout", "time": 1.0, "data": "caf\xe9\\n"}]'
    if call.incoming.operation == STREAM:
        return Reply(body=text)
    answer.body = (
        json.dumps(answer.json | {"log": "@"})
        .encode()
        .replace(b'"@"', json.dumps(text.decode("latin-1")).encode("latin-1"))
    )
    answer.body = answer.body.replace(b"\\u00e9", b"\xe9")
    return answer


@OUTPUTS.add(LIST, STREAM, fact="log: plain text in the place of the JSON array")
def log_plain_text(call: Call, go: Go) -> Reply:
    return _with_log(go, b"line one\nline two\n", call)


@OUTPUTS.add(LIST, STREAM, fact="`kernels logs` without -f is empty while it runs")
def log_empty(call: Call, go: Go) -> Reply:
    if call.incoming.operation == STREAM:
        return Reply(body=b"[]")
    return json_reply({key: value for key, value in go().json.items() if key != "log"})
