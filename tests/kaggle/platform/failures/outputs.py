"""Failures of listings, downloads and logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.api.downloads import refused, whole_file
from tests.kaggle.platform.api.logs import END, entries_of, event, stream
from tests.kaggle.platform.failures.statuses import version_of
from tests.kaggle.platform.failures.table import Collection
from tests.kaggle.platform.web.messages import Go, Json, Reply, StreamCut, html_reply, json_reply
from tests.kaggle.platform.world.clock import http_date
from tests.kaggle.platform.world.files import StoredFile, stored

OUTPUTS = Collection()
LIST, FILES, LOAD, STREAM = "ListKernelSessionOutput", "ListKernelFiles", "Download", "LogStream"


@OUTPUTS.add(LIST, FILES, "DownloadKernelOutput", fact="vanished output")
def output_vanished(call: Call, go: Go) -> Reply:
    """Output and log are deleted."""
    session = version_of(call).session
    if session is not None:
        session.lost = True
    return go()


@OUTPUTS.add(LOAD, fact="error page saved as file")
def error_page(call: Call, go: Go) -> Reply:
    """403 with a page of XML."""
    return refused()


@OUTPUTS.add(LOAD, fact="error page as a file")
def error_page_with_200(call: Call, go: Go) -> Reply:
    """A page of HTML with HTTP 200: only size and digest tell."""
    return html_reply(200, "Please try again")


@OUTPUTS.add(LOAD, fact="files with signed urls")
def link_expired(call: Call, go: Go) -> Reply:
    """The signature is not valid any more."""
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
    """One more file, whose name leads out of the folder."""
    return _with_file(call, go, name)


@OUTPUTS.add(LIST, FILES, fact="traversal names")
def absolute_name(call: Call, go: Go, *, name: str = "/tmp/planted.txt") -> Reply:
    """One more file, with an absolute name."""
    return _with_file(call, go, name)


@OUTPUTS.add(LIST, FILES, fact="nothing mixed between versions")
def name_twice(call: Call, go: Go) -> Reply:
    """The first name comes again, with other bytes."""
    names = [file.get("fileName") or file.get("name") for file in go().json.get("files", [])]
    return _with_file(call, go, names[0] if names else "twice.txt")


@OUTPUTS.add(LOAD, fact="streamed, Range/If-Range resume with `.kaggle-partial` marker")
def download_cut(call: Call, go: Go) -> Reply:
    """The connection breaks in the middle of the file."""
    answer = go()
    answer.cut = len(answer.body) // 2 or 1
    return answer


@OUTPUTS.add(LOAD, fact="streamed, Range/If-Range resume with `.kaggle-partial` marker")
def range_ignored(call: Call, go: Go) -> Reply:
    """The whole file, whatever range was asked for."""
    return whole_file(call)


@OUTPUTS.add(LOAD, fact="streamed, Range/If-Range resume with `.kaggle-partial` marker")
def file_changed(call: Call, go: Go) -> Reply:
    """The file is another one than a moment ago: `If-Range` does not hold."""
    known = call.world.links.get(call.incoming.query.get("sig", ""))
    if known is not None:
        file: StoredFile = known[0]
        newer = stored(file.name, file.read()[::-1], file.modified + timedelta(minutes=1))
        call.world.links[call.incoming.query["sig"]] = (newer, known[1])
    return go()


@OUTPUTS.add(LOAD, fact="keeps an existing file whose mtime is newer and size not smaller")
def stale_file(call: Call, go: Go) -> Reply:
    """The file claims to be older than any copy."""
    answer = go()
    answer.headers["Last-Modified"] = http_date(datetime(2020, 1, 1, tzinfo=UTC))
    return answer


@OUTPUTS.add(LOAD, fact="outputs by our own downloader (traversal, sizes, digests, resumable, one folder a version)")
def no_validator(call: Call, go: Go) -> Reply:
    """Neither ETag nor Last-Modified nor digest."""
    answer = go()
    answer.headers = {name: value for name, value in answer.headers.items() if name == "Content-Range"}
    return answer


@OUTPUTS.add(LOAD, fact="size 0 file")
def empty_file(call: Call, go: Go) -> Reply:
    """The file has no bytes; the answer is 200."""
    answer = go()
    answer.body = b""
    return answer


@OUTPUTS.add(LOAD, fact="outputs by our own downloader (traversal, sizes, digests, resumable, one folder a version)")
def corrupt_file(call: Call, go: Go) -> Reply:
    """One bit of the file is another one."""
    answer = go()
    answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:] if answer.body else b""
    return answer


@OUTPUTS.add(FILES, fact="`ListKernelFiles` (name, size: the only place with sizes)")
def wrong_size(call: Call, go: Go, *, by: int = 1) -> Reply:
    """The listed size is not the file's."""
    answer = go().json
    return json_reply(answer | {"files": [{**file, "size": file["size"] + by} for file in answer["files"]]})


@OUTPUTS.add(LIST, FILES, fact="duplicate page tokens")
def page_token_repeats(call: Call, go: Go) -> Reply:
    """Every page is followed by the same page."""
    answer: Json = go().json
    return json_reply(answer | {"nextPageToken": call.body.get("pageToken") or "p1"})


@OUTPUTS.add(STREAM, fact="replayed log")
def log_stream_cut(call: Call, go: Go, *, events: int = 2) -> Reply:
    """The connection breaks after some events, before the end."""

    def some() -> Iterator[bytes]:
        yield from (event(entry) for entry in entries_of(call)[:events])
        raise StreamCut

    return stream(some())


@OUTPUTS.add(STREAM, fact="logs streamed without repeats")
def log_replayed(call: Call, go: Go) -> Reply:
    """Every event comes twice in one stream."""
    entries = [event(entry) for entry in entries_of(call)]
    return stream(iter([*entries, *entries, END]))


@OUTPUTS.add(STREAM, fact="end `data: END_OF_LOG`")
def log_without_end(call: Call, go: Go) -> Reply:
    """The stream ends without the word for it."""
    return stream(event(entry) for entry in entries_of(call))


def _with_log(go: Go, log: bytes, call: Call) -> Reply:
    if call.incoming.operation == STREAM:
        return Reply(body=log)
    return json_reply(go().json | {"log": log.decode(errors="surrogateescape")})


@OUTPUTS.add(LIST, STREAM, fact="huge log")
def log_huge(call: Call, go: Go, *, megabytes: int = 20) -> Reply:
    """Megabytes of log."""
    line = {"stream_name": "stdout", "time": 1.0, "data": "x" * 1023 + "\n"}
    return _with_log(go, json.dumps([line] * (megabytes * 1024)).encode(), call)


@OUTPUTS.add(LIST, STREAM, fact="non-UTF-8 log")
def log_not_utf8(call: Call, go: Go) -> Reply:
    """A byte that is not UTF-8."""
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


@OUTPUTS.add(LIST, STREAM, fact="after the end JSON array of the same")
def log_plain_text(call: Call, go: Go) -> Reply:
    """Lines in the place of the JSON array."""
    return _with_log(go, b"line one\nline two\n", call)


@OUTPUTS.add(LIST, STREAM, fact="`kernels logs` without -f is empty while it runs")
def log_empty(call: Call, go: Go) -> Reply:
    """There is no log."""
    if call.incoming.operation == STREAM:
        return Reply(body=b"[]")
    return json_reply({key: value for key, value in go().json.items() if key != "log"})
