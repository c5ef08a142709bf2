"""Sends rows to the declared tools, a thread each: a tool that is slow, hangs or fails costs the training nothing.

What goes in: names of tools, what the run is called, rows. What comes out: events reporting{writer, where} once a tool
is open, and writer_failed{writer, reason} at most once for each that is given up; then its rows are dropped and the
training goes on.

    reports = Reports(["tensorboard"], facts_of, emit)
    reports.start(rows)         # what metrics.jsonl holds already: each tool takes what it lacks
    reports.row(row)            # returns at once
    reports.close()             # waits CLOSE_SECONDS at most
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from engine.protocol.events.training import LoggerFailed, Reporting
from engine.trainer.process import Emit
from engine.trainer.tracking.loggers import Logger, RunFacts, open_logger

MOST_WAITING = 10_000  # rows of some hundred bytes
CLOSE_SECONDS = 30.0
MOST_CHARS = 300
# A tracking address may carry a name and a password, and a tool repeats it in what it raises.
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")

Row = Mapping[str, Any]
OpenWriter = Callable[[str, RunFacts], Logger]


class Reports:
    """All declared tools. ``facts_of(name)``: what each is told of the run."""

    def __init__(
        self, names: Sequence[str], facts_of: Callable[[str], RunFacts], emit: Emit, opener: OpenWriter = open_logger
    ) -> None:
        self._lines = [_Line(name, facts_of, emit, opener) for name in names]

    def start(self, rows: Iterable[Row]) -> None:
        """Open the tools; ``rows`` are those of the train steps before, which a tool may hold already."""
        before = tuple(rows)
        for line in self._lines:
            line.start(before)

    def row(self, row: Row) -> None:
        """Hand a row on."""
        for line in self._lines:
            line.put(row)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let the tools finish; those that have not after ``seconds`` are given up."""
        for line in self._lines:
            line.put(None)
        deadline = time.monotonic() + seconds
        for line in self._lines:
            line.wait(deadline, seconds)


class _Line:
    """One tool and its thread."""

    def __init__(self, name: str, facts_of: Callable[[str], RunFacts], emit: Emit, opener: OpenWriter) -> None:
        self._name, self._facts_of, self._emit, self._opener = name, facts_of, emit, opener
        self._waiting: queue.Queue[Row | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._given_up = threading.Event()

    def start(self, before: Sequence[Row]) -> None:
        self._thread = threading.Thread(target=self._work, args=(before,), name=f"report-{self._name}", daemon=True)
        self._thread.start()

    def put(self, row: Row | None) -> None:
        if self._given_up.is_set() or self._thread is None:
            return
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self._give_up(f"it is {MOST_WAITING} rows behind")

    def wait(self, deadline: float, seconds: float) -> None:
        if self._thread is None or self._given_up.is_set():
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._give_up(f"it did not finish within {seconds:g} s")

    def _work(self, before: Sequence[Row]) -> None:
        try:
            writer = self._opener(self._name, self._facts_of(self._name))
            self._emit(Reporting(self._name, without_userinfo(writer.where)))
            last = writer.last_step
            for row in self._rows(before):
                if row["train_step"] > last:
                    writer.row(row["train_step"], numbers(row))
            writer.close()
        except Exception as error:  # noqa: BLE001 - whatever a tool raises, the training goes on, and it is said
            self._give_up(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    def _rows(self, before: Sequence[Row]) -> Iterator[Row]:
        yield from before
        while not self._given_up.is_set():
            row = self._waiting.get()
            if row is None:
                return
            yield row

    def _give_up(self, reason: str) -> None:
        if not self._given_up.is_set():
            self._given_up.set()
            reason = without_userinfo(reason)[:MOST_CHARS]
            self._emit(LoggerFailed(self._name, reason))


def numbers(row: Row) -> dict[str, float]:
    """What tools can draw: the numbers of a row but the train step itself.

    >>> numbers({"train_step": 3, "loss": 2.5, "grad_norm": None, "skipped": True})
    {'loss': 2.5}
    """
    return {
        key: value
        for key, value in row.items()
        if key != "train_step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def without_userinfo(text: str) -> str:
    """The text without names and passwords in its addresses.

    >>> without_userinfo("cannot reach http://me:secret@tracking.example/api")
    'cannot reach http://tracking.example/api'
    """
    return _USERINFO.sub("", text)
