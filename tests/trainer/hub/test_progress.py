"""The progress of a fetch: the events, and what a person sees of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest

from engine.display.event_text import describe
from engine.display.live import LiveConsole
from engine.display.plain import PlainConsole
from engine.trainer.hub.client import RemoteFile
from engine.trainer.hub.progress import DownloadProgress
from tests.fixtures.events import log_into


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _play(events: list[Mapping[str, Any]], clock: Clock) -> None:
    """Two files of 10 MB, one MB each 0.25 s; the first half of the second exists already."""
    files = [RemoteFile("a.safetensors", 10_000_000, "0" * 64), RemoteFile("b.safetensors", 10_000_000, "1" * 64)]
    progress = DownloadProgress(log_into(events), files, clock)
    for file, existing in zip(files, (0, 5_000_000), strict=True):
        progress.file(file.name)
        progress.at(existing)
        for _ in range((file.size - existing) // 1_000_000):
            clock.now += 0.25
            progress.add(1_000_000)
        progress.end_of_file()


def test_events_come_once_a_second_the_first_and_the_last_always() -> None:
    """Bytes of all files together; the speed counts received bytes only."""
    events: list[Any] = []
    _play(events, Clock())
    assert [event["done_bytes"] for event in events] == [0, 4_000_000, 8_000_000, 17_000_000, 20_000_000]
    assert {event["total_bytes"] for event in events} == {20_000_000}
    assert {event["event"] for event in events} == {"download"}
    assert events[-1] == {
        "event": "download", "file": "b.safetensors", "done_bytes": 20_000_000, "total_bytes": 20_000_000,
        "bytes_per_second": 4_000_000, "seconds_left": 0.0,
    }  # fmt: skip


def test_a_complete_partial_file_gives_the_last_event() -> None:
    """The last event comes although nothing was received."""
    events: list[Any] = []
    progress = DownloadProgress(log_into(events), [RemoteFile("a", 7, "0" * 40)], Clock())
    progress.file("a")
    progress.at(7)
    progress.end_of_file()
    assert events[-1]["done_bytes"] == events[-1]["total_bytes"] == 7


def test_plain_lines_of_a_fetch_are_golden() -> None:
    """A line every two seconds, the first and the last always, and every other event as a sentence."""
    stream, clock, events = io.StringIO(), Clock(), []
    console = PlainConsole(stream, clock)
    where = {"id": "google/gemma-2b", "revision": "flax", "commit": "0123456789abcdef" * 2 + "01234567"}
    console.event(
        {"event": "resolved", **where, "n_files": 7, "total_bytes": 5_012_345_678, "missing_bytes": 20_000_000}
    )
    _play(events, Clock())
    for event in events:
        console.event(event)
        clock.now += 1.0
    for event in (
        {"event": "resolved", **where, "n_files": 7, "total_bytes": 5_012_345_678, "missing_bytes": 0},
        {"event": "hub_retry", "reason": "the hub answers HTTP 503", "wait_seconds": 4.0},
        {"event": "hub_offline", **where, "revision": None},
        {"event": "hub_bad_file", "file": "model.safetensors"},
    ):
        console.event(event)
    assert stream.getvalue() == (
        "      google/gemma-2b at flax is commit 0123456789ab: 7 files, 20.0 MB of 5.01 GB to fetch\n"
        "      fetched 0 B of 20.0 MB · a.safetensors\n"
        "      fetched 8.0 MB of 20.0 MB · a.safetensors · 4.0 MB/s · 3.0s left\n"
        "      fetched 20.0 MB of 20.0 MB · b.safetensors · 4.0 MB/s\n"
        "      google/gemma-2b at flax is commit 0123456789ab: 7 files, all in the cache\n"
        "      the hub answers HTTP 503; trying again in 4.0s\n"
        "      the hub cannot be reached: using the earlier download of google/gemma-2b at its default revision, commit "
        "0123456789ab\n"
        "      model.safetensors in the cache is damaged; it is removed and fetched again\n"
    )


def test_the_live_display_has_a_bar_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: sizes for people, the file, the speed; no line remains."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream, events = Terminal(), []
    console = LiveConsole(stream)
    _play(events, Clock())
    console._progress.start()
    for event in events[:2]:
        console.event(event)
        console._progress.refresh()
    console.close()
    assert "fetching 4.0 MB of 20.0 MB" in stream.getvalue()
    assert "a.safetensors · 4.0 MB/s · 4.0s left" in stream.getvalue()


def test_the_clients_own_bars_do_not_show(fetch: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed by a fetch: what a person sees comes from the events."""
    fetch()
    assert capfd.readouterr() == ("", "")
    assert all(describe(event) for event in fetch.events)
    assert fetch.named("download")[-1]["done_bytes"] == fetch.named("resolved")[0]["missing_bytes"]
