"""Listings in pages, signed addresses, ranges, archives, the log in both forms."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable

import pytest

from tests.kaggle.platform.plain import Answer, Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script


def _names(api: Plain, size: int) -> list[list[str]]:
    pages, token = [], ""
    while True:
        answer = api.about("ListKernelSessionOutput", pageSize=size, pageToken=token).json
        pages.append([file["fileName"] for file in answer["files"]])
        token = answer.get("nextPageToken", "")
        if not token:
            return pages


@pytest.mark.parametrize(("size", "lengths"), [(0, [20, 20, 5]), (30, [30, 15]), (45, [45]), (500, [45])])
def test_pages(kaggle: Platform, api: Plain, size: int, lengths: list[int]) -> None:
    """20 unless asked for; every name once, in order, the log on each page."""
    files = {f"f{number:02}.txt": "x" for number in range(45)}
    kaggle.script(Script(files=files, log=["hello"]))
    api.push()
    pages = _names(api, size)
    assert [len(page) for page in pages] == lengths
    assert [name for page in pages for name in page] == sorted(files)
    assert api.about("ListKernelSessionOutput", pageToken="p20").json["log"]
    assert api.about("ListKernelSessionOutput", pageToken="nonsense").status == 400


def test_never_more_than_200(kaggle: Platform, api: Plain) -> None:
    """Whatever is asked for."""
    kaggle.script(Script(files={f"f{number:03}": "" for number in range(201)}))
    api.push()
    assert [len(page) for page in _names(api, 1000)] == [200, 1]


@pytest.fixture
def link(kaggle: Platform, api: Plain) -> str:
    """A signed address of a file of 1000 bytes."""
    kaggle.script(Script(files={"evidence/a.bin": bytes(range(250)) * 4}))
    api.push()
    return str(api.about("ListKernelSessionOutput").json["files"][0]["url"])


def test_a_file_and_what_is_said_of_it(kaggle: Platform, api: Plain, link: str) -> None:
    """Bytes, length, digest, date; no credential is asked for."""
    api.authorization = None
    answer = api.get(link)
    assert (answer.status, answer.body) == (200, bytes(range(250)) * 4)
    assert link.startswith(f"{kaggle.url}/dl/a.bin?sig=")
    digest = base64.b64encode(hashlib.md5(answer.body).digest()).decode()
    assert answer.headers["x-goog-hash"] == f"md5={digest}"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["last-modified"].endswith("GMT")
    assert api.send("HEAD", link).headers["content-length"] == "1000"


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [("bytes=600-", 206, slice(600, 1000)), ("bytes=0-9", 206, slice(0, 10)), ("bytes=990-5000", 206, slice(990, 1000)),
     ("bytes=1000-", 416, slice(0, 0)), ("lines=1-2", 200, slice(0, 1000))],
)  # fmt: skip
def test_ranges(api: Plain, link: str, asked: str, status: int, part: slice) -> None:
    """The part and where it is; past the end is 416; what is no range of bytes gets everything."""
    answer = api.get(link, Range=asked)
    assert (answer.status, answer.body) == (status, (bytes(range(250)) * 4)[part])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/1000"


def test_a_range_of_a_file_that_changed_is_the_whole_file(kaggle: Platform, api: Plain, link: str) -> None:
    """`If-Range` by either validator holds until the file is another one."""
    said = api.get(link).headers
    for validator in (said["etag"], said["last-modified"]):
        assert api.get(link, Range="bytes=600-", If_Range=validator).status == 206
    kaggle.fail("file_changed", times=1)
    answer = api.get(link, Range="bytes=600-", If_Range=said["etag"])
    assert (answer.status, len(answer.body)) == (200, 1000)


def test_an_address_is_good_for_an_hour(kaggle: Platform, api: Plain, link: str) -> None:
    """Then it is a page that says so, and so is one with another signature."""
    assert api.get(link[:-1] + "x").status == 403
    kaggle.clock.advance(3601)
    answer = api.get(link)
    assert answer.status == 403
    assert b"<Error>" in answer.body


def test_one_file_or_all_by_a_redirect(kaggle: Platform, api: Plain) -> None:
    """DownloadKernelOutput takes the version's number; without a path it is an archive."""
    kaggle.script(Script(files={"a.txt": "one"}), Script(files={"a.txt": "two", "b/c.txt": "c"}))
    api.push()
    api.push()

    def fetched(**body: object) -> Answer:
        answer = api.call("DownloadKernelOutput", ownerSlug="someone", kernelSlug="my-run", **body)
        assert answer.status == 302
        return api.get(answer.headers["location"])

    assert fetched(filePath="a.txt", versionNumber=1).body == b"one"
    with zipfile.ZipFile(io.BytesIO(fetched(versionNumber=2).body)) as archive:
        assert sorted(archive.namelist()) == ["a.txt", "b/c.txt"]
    missing = api.call("DownloadKernelOutput", ownerSlug="someone", kernelSlug="my-run", filePath="none")
    assert missing.status == 404


def test_nothing_is_there_before_the_end(kaggle: Platform, api: Plain) -> None:
    """Neither files nor the stored log while it runs."""
    kaggle.script(Script(files={"a.txt": "a"}, log=["hello"], running_seconds=100))
    api.push()
    assert api.about("ListKernelSessionOutput").json == {}
    assert api.about("ListKernelFiles").json["files"] == []
    kaggle.clock.advance(101)
    assert [file["size"] for file in api.about("ListKernelFiles").json["files"]] == [1]


def _events(answer: Answer) -> list[str]:
    lines = answer.body.decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line[6:])["data"] if line[6:] != "END_OF_LOG" else "END" for line in lines]


STREAM = "/api/v1/kernels/logs/stream/someone/my-run?versionLabel=v1"


@pytest.fixture
def stream(kaggle: Platform, api: Plain) -> Callable[[], Answer]:
    """The log stream as it comes, until it ends."""
    return lambda: api.get(STREAM, Authorization=f"Bearer {kaggle.token}", Accept="text/event-stream, */*")


def test_the_log_while_it_runs(kaggle: Platform, api: Plain, stream: Callable[[], Answer]) -> None:
    """Events as the clock reaches them, the word for the end when it is over."""
    kaggle.script(Script(log=[(1, "one\n"), (50, "two\n", "stderr")], running_seconds=100))
    api.push()
    mover = threading.Timer(0.2, lambda: kaggle.clock.advance(101))
    mover.start()
    answer = stream()
    mover.join()
    assert answer.headers["content-type"] == "text/event-stream"
    assert _events(answer) == ["one\n", "two\n", "END"]


def test_an_idle_stream_is_cut_and_starts_over(kaggle: Platform, api: Plain, stream: Callable[[], Answer]) -> None:
    """A connection with nothing to send breaks; who comes back gets all of it again."""
    kaggle.script(Script(log=[(0, "one\n"), (50, "two\n")], running_seconds=100))
    api.push()
    with pytest.raises(Exception, match="IncompleteRead"):
        stream()
    kaggle.clock.advance(60)
    mover = threading.Timer(0.2, lambda: kaggle.clock.advance(60))
    mover.start()
    assert _events(stream()) == ["one\n", "two\n", "END"]
    mover.join()


def test_the_log_afterwards(kaggle: Platform, api: Plain, stream: Callable[[], Answer]) -> None:
    """The same door gives the stored array, the same as in the listing."""
    kaggle.script(Script(log=["one", (2.5, "two\n", "stderr")]))
    api.push()
    answer = stream()
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == json.loads(api.about("ListKernelSessionOutput").json["log"])
    assert answer.json[1] == {"stream_name": "stderr", "time": 2.5, "data": "two\n"}
