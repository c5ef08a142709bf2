"""The log of a session, each line once: from the stream while it runs, across cuts and reconnections, from the store afterwards.

In: the payloads of the stream, which begins again at its first event on each connection, and sometimes does not; or the stored log. Out:
:class:`LogEvent`.

    >>> seen = Seen()
    >>> first = seen.new(events('{"stream_name": "stdout", "time": 1.0, "data": "a\\\\n"}'))
    >>> seen.reconnected()
    >>> again = seen.new(events('[{"stream_name": "stdout", "time": 1.0, "data": "a\\\\n"}, {"stream_name": "stdout", "time": 2.0, "data": "b\\\\n"}]'))
    >>> [event.data for event in first], [event.data for event in again]
    (['a\\n'], ['b\\n'])
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.kaggle.driver.api.answers import Refusal
from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.names import NotebookName
from engine.kaggle.driver.api.pacing import CALLS
from engine.kaggle.driver.api.refusals import explained, explaining

END = "END_OF_LOG"
SNAPSHOT_SECONDS = 5.0
IDLE_SECONDS = 60.0  # without a line the stream is left for a look at the status
FRUITLESS_AT_MOST = 5  # connections in a row that gave nothing new, before it is asked whether the session still runs


class LogEvent(NamedTuple):
    """What a cell wrote, and when, in seconds of the session."""

    stream: str
    time: float
    data: str


def events(payload: str) -> list[LogEvent]:
    """Of one payload: an event, an array of events, or text that is no JSON, which is an event of its own."""
    if not payload.strip():
        return []
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return [LogEvent("stdout", 0.0, payload)]
    rows = value if isinstance(value, list) else [value]
    return [_event(row) for row in rows if not isinstance(row, dict) or row.get("data") is not None]


def _event(row: object) -> LogEvent:
    if not isinstance(row, dict):
        return LogEvent("stdout", 0.0, str(row))
    time = row.get("time")
    seconds = float(time) if isinstance(time, int | float) else 0.0
    return LogEvent(str(row.get("stream_name", "stdout")), seconds, str(row["data"]))


@dataclass
class Seen:
    """What has been shown. Of equal events a connection's second counts as the second, so that true repeats are shown too."""

    _shown: Counter[LogEvent] = field(default_factory=Counter)
    _here: Counter[LogEvent] = field(default_factory=Counter)

    def reconnected(self) -> None:
        """A new connection begins."""
        self._here.clear()

    def new(self, found: Iterable[LogEvent]) -> list[LogEvent]:
        """Those of this connection that were not shown before."""
        fresh = []
        for event in found:
            self._here[event] += 1
            if self._here[event] > self._shown[event]:
                self._shown[event] += 1
                fresh.append(event)
        return fresh


def follow(kaggle: Kaggle, name: NotebookName, version: int, seen: Seen, slice_seconds: float) -> Iterator[LogEvent]:
    """New events of one connection, until the log ends, nothing comes for a while, or the slice of time is over.

    Raises Refusal where the connection cannot be made or is cut.
    """
    seen.reconnected()
    begun = kaggle.clock.monotonic()
    idle = min(IDLE_SECONDS, slice_seconds)
    with kaggle.wire.log_stream(str(name), f"v{version}", kaggle.fresh_login(), idle) as payloads:
        for payload in payloads:
            if payload == END:
                return
            yield from seen.new(events(payload))
            if kaggle.clock.monotonic() - begun > slice_seconds:
                return


def stream(kaggle: Kaggle, name: NotebookName, version: int) -> Iterator[LogEvent]:
    """All of the log, to its end, however often the connection is cut; quiet hours of a session that runs are waited through.

    Raises RemoteRefused G205 to G210.
    """
    seen, fruitless = Seen(), 0
    while True:
        try:
            for event in follow(kaggle, name, version, seen, slice_seconds=float("inf")):
                fruitless = 0
                yield event
            return
        except Refusal as refusal:
            if not refusal.is_passing:
                raise explained(refusal, f"the log of {name}, version {version}", kaggle.login) from refusal
            wait = refusal.wait or 0.0
        fruitless += 1
        if fruitless >= FRUITLESS_AT_MOST:
            if not is_under_way(kaggle, name, version):
                yield from _stored(kaggle, name, version, seen)
                return
            fruitless = 0
        kaggle.clock.sleep(max(CALLS.seconds(fruitless, kaggle.clock.jitter()), wait))


def until_now(kaggle: Kaggle, name: NotebookName, version: int) -> Iterator[LogEvent]:
    """What is there: of a session that is over the stored log, of one that runs what its stream has so far."""
    seen = Seen()
    yield from _stored(kaggle, name, version, seen)
    if is_under_way(kaggle, name, version):
        with suppress(Refusal):  # it is silent now
            yield from follow(kaggle, name, version, seen, slice_seconds=SNAPSHOT_SECONDS)


def is_under_way(kaggle: Kaggle, name: NotebookName, version: int) -> bool:
    """Whether the session waits or runs. Raises RemoteRefused."""
    with explaining(f"{name}, version {version}", kaggle.login):
        return kaggle.status(name, version).phase in ("queued", "running", "cancelling")


def _stored(kaggle: Kaggle, name: NotebookName, version: int, seen: Seen) -> Iterator[LogEvent]:
    """What the stream did not give."""
    seen.reconnected()
    with explaining(f"the log of {name}, version {version}", kaggle.login):
        _, log = kaggle.outputs(name, version)
    yield from seen.new(events(log))
