"""What interrupts a download, and what is kept: cut connections, killed processes, damage, a full disk, no network."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

from engine.errors import Interrupted, RemoteRefused
from engine.trainer.hub import retry_policy

WEIGHTS = "flax_model.msgpack"


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_cut_connection_resumes_where_it_broke(
    hub: Any, fetch: Any, flax_files: Mapping[str, bytes], is_reset: bool
) -> None:
    """Cut twice, by an early end or a TCP reset: every byte is received, and none is requested again."""
    size = len(flax_files[WEIGHTS])
    hub.cut[WEIGHTS], hub.reset = [1000, 2000], is_reset
    folder, _ = fetch()
    assert (folder / WEIGHTS).read_bytes() == flax_files[WEIGHTS]
    ranges = [request.range for request in hub.requests if request.on_cdn and request.path.endswith(WEIGHTS)]
    if is_reset:  # a reset may discard bytes that were sent and not yet read
        assert len(ranges) == 3
        assert hub.served(WEIGHTS) <= size + 3000
    else:
        assert ranges == [None, "bytes=1000-", "bytes=3000-"]
        assert hub.served(WEIGHTS) == size
    assert [event["wait_seconds"] for event in fetch.named("hub_retry")] == [0.01, 0.01]


def test_a_connection_without_progress_is_abandoned(hub: Any, fetch: Any) -> None:
    """Five attempts without another byte: M403, and the received bytes stay for the next run."""
    hub.cut[WEIGHTS] = [1000, 0, 0, 0, 0]
    error = fetch.error()
    assert (type(error), error.code) == (RemoteRefused, "M403")
    hub.forget()
    fetch()
    assert [request.range for request in hub.requests if request.on_cdn] == ["bytes=1000-"]


def test_a_server_that_begins_again_each_time_is_abandoned(hub: Any, fetch: Any) -> None:
    """Without ranges every attempt starts over: the same thousand bytes are no progress, and it ends with M403."""
    hub.no_ranges, hub.cut[WEIGHTS] = True, [1000] * 9
    assert fetch.error().code == "M403"
    assert len(fetch.named("hub_retry")) == 4


def test_a_killed_process_leaves_its_bytes_to_the_next(
    hub: Any, environment: Mapping[str, str], start_child: Callable[..., Any], token: str
) -> None:
    """SIGKILL in the middle of a file: the next process starts there, and the result is complete."""
    data = os.urandom(400_000)
    hub.add("acme/rows", {"main": {"train.bin": data}})
    hub.pause = threading.Event()
    job = {"hub": "acme/rows", "revision": None, "any_of": ["train.bin"]}
    with start_child(job, environment) as first:
        partial = Path(environment["HF_HOME"]) / "hub" / "datasets--acme--rows" / "blobs"
        while not any(path.stat().st_size >= 150_000 for path in partial.glob("*.incomplete")):
            assert first.poll() is None
        first.kill()
        first.communicate()
    received = sum(path.stat().st_size for path in partial.glob("*.incomplete"))
    hub.pause.set()
    hub.forget()
    with start_child(job, environment) as second:
        out, err = _read(second)
    report = json.loads(out.splitlines()[-1])["report"]
    assert Path(report["path"]).read_bytes() == data
    assert [request.range for request in hub.requests if request.on_cdn] == [f"bytes={received}-"]
    assert token not in out + err


def _read(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Both streams to their end, with standard input open: the child ends when it closes."""
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.read(), process.stderr.read()


def test_a_server_without_ranges_sends_the_full_file(hub: Any, fetch: Any, flax_files: Mapping[str, bytes]) -> None:
    """Then the file is started over rather than joined wrongly."""
    hub.cut[WEIGHTS], hub.no_ranges = [1000], True
    folder, _ = fetch()
    assert (folder / WEIGHTS).read_bytes() == flax_files[WEIGHTS]
    assert fetch.named("download")[-1]["done_bytes"] == fetch.named("download")[-1]["total_bytes"]


def _partial(fetch: Any, hub: Any, name: str, data: bytes) -> Path:
    """A partial file as an earlier process may have left it."""
    files = hub.repos[name].branches["flax"]
    path = (
        fetch.cache
        / "models--acme--tiny-gemma"
        / "blobs"
        / f"{hashlib.sha256(files[WEIGHTS]).hexdigest()}.runspec.incomplete"
    )
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_a_partial_file_that_is_longer_than_the_file_is_started_over(
    hub: Any, fetch: Any, name: str, flax_files: Mapping[str, bytes]
) -> None:
    """It cannot be a part of this file."""
    _partial(fetch, hub, name, bytes(len(flax_files[WEIGHTS]) + 1))
    folder, _ = fetch()
    assert (folder / WEIGHTS).read_bytes() == flax_files[WEIGHTS]


def test_a_complete_partial_file_is_not_fetched_again(
    hub: Any, fetch: Any, name: str, flax_files: Mapping[str, bytes]
) -> None:
    """Killed between the last byte and the renaming: it is checked and published."""
    _partial(fetch, hub, name, flax_files[WEIGHTS])
    fetch()
    assert WEIGHTS not in hub.fetched()


@pytest.mark.parametrize("in_the_partial_file", [False, True])
def test_a_file_with_a_wrong_digest_is_deleted(
    hub: Any, fetch: Any, name: str, flax_files: Mapping[str, bytes], in_the_partial_file: bool
) -> None:
    """Same length, one bit: M406, nothing of it stays, and the next attempt starts over and succeeds."""
    good = flax_files[WEIGHTS]
    bad = good[:500] + bytes([good[500] ^ 1]) + good[501:]
    if in_the_partial_file:
        _partial(fetch, hub, name, bad[:1000])
    else:
        hub.damage[WEIGHTS] = bad
    error = fetch.error()
    assert type(error) is RemoteRefused
    assert str(error) == (
        f"error[M406]: {WEIGHTS} of acme/tiny-gemma at revision flax arrived damaged: {len(good)} bytes with digest "
        f"{hashlib.sha256(bad).hexdigest()[:12]}…, the hub lists {hashlib.sha256(good).hexdigest()[:12]}…\n"
        "  --> acme/tiny-gemma\n"
        "   = help: the damaged file has been deleted; run again to fetch it. If it happens again, something between "
        "this machine and the hub (a proxy, a mirror) changes files"
    )
    blobs = fetch.cache / "models--acme--tiny-gemma" / "blobs"
    assert not any(hashlib.sha256(good).hexdigest() in path.name for path in blobs.iterdir())
    assert not any(fetch.cache.rglob(WEIGHTS))
    hub.damage.clear()
    folder, _ = fetch()
    assert (folder / WEIGHTS).read_bytes() == good


def test_a_small_file_is_checked_by_gits_own_digest(hub: Any, fetch: Any, flax_files: Mapping[str, bytes]) -> None:
    """Files that are not in LFS have a digest, too."""
    hub.damage["config.json"] = flax_files["config.json"].replace(b"gemma", b"gamma")
    assert fetch.error().code == "M406"


def test_too_short_and_too_long_are_wrong(hub: Any, fetch: Any, flax_files: Mapping[str, bytes]) -> None:
    """A server that ends early is asked for the rest; one that sends more fails the check."""
    hub.damage[WEIGHTS] = flax_files[WEIGHTS] + b"more"
    assert fetch.error().code == "M406"
    hub.damage[WEIGHTS] = flax_files[WEIGHTS][:-4]
    assert fetch.error().code == "M406"
    hub.damage.clear()
    folder, _ = fetch()
    assert (folder / WEIGHTS).read_bytes() == flax_files[WEIGHTS]


def test_a_file_damaged_in_the_cache_is_fetched_again(hub: Any, fetch: Any, flax_files: Mapping[str, bytes]) -> None:
    """Changed on disk since it was checked (here: one byte): detected, reported, deleted, fetched."""
    folder, commit = fetch()
    blob = fetch.blob(WEIGHTS, commit)
    blob.write_bytes(flax_files[WEIGHTS][:-1] + bytes([flax_files[WEIGHTS][-1] ^ 1]))
    hub.forget()
    fetch()
    assert [event["file"] for event in fetch.named("hub_bad_file")] == [WEIGHTS]
    assert hub.fetched() == [WEIGHTS]
    assert (folder / WEIGHTS).read_bytes() == flax_files[WEIGHTS]


# --- disk ---

UNDER_A_LIMIT = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
from engine.errors import RunspecError
from engine.trainer import hub
from engine.trainer.hub.hub_client import HubClient
try:
    hub.fetch("acme/tiny-gemma", "flax", sys.argv[2], client=HubClient(sys.argv[1]))
except RunspecError as error:
    print(error)
"""


def test_a_disk_that_fills_up_in_the_middle(
    hub: Any, fetch: Any, environment: Mapping[str, str], flax_files: Mapping[str, bytes]
) -> None:
    """RLIMIT_FSIZE in a process of its own: M407, the written bytes stay, and with more space the fetch resumes."""
    limit = len(flax_files[WEIGHTS]) - 1000
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, hub.url, str(fetch.cache), str(limit)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == (
        "error[M407]: the disk is full while fetching acme/tiny-gemma at revision flax\n"
        "  --> acme/tiny-gemma\n"
        "   = help: free some disk space, or set HF_HOME to a folder on a larger disk; what has been fetched is kept, and "
        "the next run resumes from there\n"
    )
    assert done.stderr == ""
    hub.forget()
    fetch()
    assert [request.range for request in hub.requests if request.on_cdn and request.path.endswith(WEIGHTS)] == [
        f"bytes={limit}-"
    ]


ON_A_SMALL_DISK = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3" "$4" "$1" -1'


def _can_mount(folder: Path) -> bool:
    words = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k none "$1"', "sh", str(folder)]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_disk_that_is_too_small_from_the_start(hub: Any, environment: Mapping[str, str], tmp_path: Path) -> None:
    """A tmpfs of 64 KiB: M407 with the numbers, before a byte is fetched."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not _can_mount(disk):
        pytest.skip("this machine does not allow mounting a file system, even in a namespace of its own")
    code = UNDER_A_LIMIT.replace("int(sys.argv[3])", "resource.RLIM_INFINITY")
    hub.add("acme/tiny-gemma", {"flax": {"config.json": b"{}", "model.safetensors": bytes(100_000)}})
    words = ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(disk), sys.executable, code, hub.url]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "error[M407]: acme/tiny-gemma at revision flax needs 100,002 more bytes of disk space, and 65,536 are free at "
        f"{disk}\n"
    )
    assert hub.fetched() == []


def test_a_cache_that_cannot_be_written_is_an_error(fetch: Any) -> None:
    """A file in place of the cache's folder: the system's reason, and what to do."""
    fetch.cache.write_text("in the way")
    error = fetch.error()
    assert str(error) == (
        "error[M405]: fetching acme/tiny-gemma at revision flax failed: the cache cannot be used: Not a directory\n"
        "  --> acme/tiny-gemma\n"
        "   = help: give this user the right to write there, or set HF_HOME to another folder"
    )


def test_a_home_that_is_no_folder_is_an_error(fetch: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HF_HOME names a file: the client looks for a token there first, and fails."""
    (tmp_path / "home").write_text("in the way")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    error = fetch.error()
    assert error.code == "M405"
    assert "the cache cannot be used: Not a directory" in str(error)
    assert "set HF_HOME to another folder" in str(error)


def test_a_read_only_cache_is_used(hub: Any, fetch: Any) -> None:
    """If no note can be written beside the files, they are checked each time, and used."""
    folder, _ = fetch()
    notes, ref = (fetch.cache / "models--acme--tiny-gemma" / name for name in (".runspec", "refs"))
    for folder_ in (notes, ref):
        for path in folder_.iterdir():
            path.unlink()
        folder_.rmdir()
        folder_.write_text("no folder can be made here")
    hub.forget()
    assert fetch()[0] == folder
    assert hub.fetched() == []


def test_a_file_changed_in_the_cache_with_its_time_kept_is_fetched_again(
    fetch: Any, flax_files: Mapping[str, bytes]
) -> None:
    """Size, inode and mtime are the same; the note that its digest was checked says when it last changed."""
    folder, _ = fetch()
    path = folder / WEIGHTS
    times = path.stat()
    time.sleep(0.02)  # the clock of the file system has ticks of some milliseconds
    with path.open("r+b") as stream:
        stream.write(b"\xff")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.read_bytes() != flax_files[WEIGHTS]
    assert fetch()[0] == folder
    assert path.read_bytes() == flax_files[WEIGHTS]


# --- busy, down, offline, stopped ---


def test_a_busy_hub_is_retried(hub: Any, fetch: Any) -> None:
    """500 and 429 for the listing, 503 for a file: fetched all the same, and each wait is an event."""
    hub.statuses = [(500, {}), (429, {"Retry-After": "0"}), (0, {}), (503, {})]
    fetch()
    reasons = [event["reason"] for event in fetch.named("hub_retry")]
    assert reasons == ["the hub answers HTTP 500", "the hub answers HTTP 429", "the hub answers HTTP 503"]


def test_the_hub_says_how_long_to_wait(hub: Any, fetch: Any) -> None:
    """Retry-After is followed; a wait of hours is not."""
    hub.statuses = [(429, {"Retry-After": "1"})]
    fetch()
    assert [event["wait_seconds"] for event in fetch.named("hub_retry")] == [1.0]
    hub.statuses = [(429, {"Retry-After": "7200"})]
    assert fetch.error("main").code == "M405"


@pytest.mark.parametrize("how", ["offline mode", "no network", "down"])
def test_without_the_hub_an_earlier_download_is_used(
    hub: Any, fetch: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The same revision, complete in the cache: it is used, and an event says so."""
    first = fetch()
    if how == "offline mode":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "no network":
        hub.__exit__()
        close_session()  # closes the connections that are still open
    else:
        hub.statuses = [(503, {})] * 5
    assert fetch() == first
    assert fetch.named("hub_offline") == [
        {"event": "hub_offline", "id": "acme/tiny-gemma", "revision": "flax", "commit": first[1]}
    ]
    if how != "down":
        assert fetch.named("hub_retry") == []


@pytest.mark.parametrize("lost", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_partial_download_is_not_used(hub: Any, fetch: Any, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """An incomplete download is not used; nor is another revision."""
    folder, _ = fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch.error("main").code == "M403"
    (folder / lost).unlink()
    assert fetch.error().code == "M403"


@pytest.mark.parametrize("harmed", [WEIGHTS, "config.json"])
def test_a_damaged_download_is_not_used(
    hub: Any, fetch: Any, flax_files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch, harmed: str
) -> None:
    """One byte has changed on disk and the hub cannot be reached: an error; with the hub it is fetched again."""
    folder, commit = fetch()
    fetch.blob(harmed, commit).write_bytes(flax_files[harmed][:-1] + bytes([flax_files[harmed][-1] ^ 1]))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for _ in range(2):  # nothing is removed that cannot be fetched again
        error = fetch.error()
        assert (error.code, error.diagnostics[0].message) == (
            "M406",
            f"{harmed} of acme/tiny-gemma at revision flax: damaged in the cache, and the hub cannot be reached to "
            "fetch it again",
        )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert fetch() == (folder, commit)
    assert (folder / harmed).read_bytes() == flax_files[harmed]


def test_a_refusal_is_not_hidden_by_the_cache(hub: Any, fetch: Any, name: str) -> None:
    """Losing access is not a missing network."""
    fetch()
    hub.repos[name].access = "private"
    assert fetch.error().code == "M402"


@pytest.mark.parametrize("moment", ["in a file", "in a wait"])
def test_a_stop_request_is_followed_within_a_file(
    hub: Any, fetch: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Interrupted M408; the received bytes are kept, and the next fetch resumes."""
    if moment == "in a wait":
        monkeypatch.setattr(retry_policy, "WAITS", (60.0,))
        hub.cut[WEIGHTS] = [1000]
    else:
        hub.pause = threading.Event()

    def stopping() -> bool:
        begun = hub.served(WEIGHTS) > 0
        if begun and hub.pause is not None:
            hub.pause.set()
        return begun

    error = fetch.error(stopping=stopping)
    assert (type(error), error.code) == (Interrupted, "M408")
    hub.pause = None
    folder, _ = fetch()
    assert (folder / WEIGHTS).is_file()
