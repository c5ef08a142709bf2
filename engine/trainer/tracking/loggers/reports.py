"""Sends rows to the declared tools, on a thread each: a tool that is slow, hangs or fails does not delay training.

In: names of tools, the name of the run, rows. Out: events reporting{writer, where} once a tool is open, and
writer_failed{writer, reason} at most once for each tool that is abandoned; then its rows are dropped and training
continues.

    reports = Reports(["tensorboard"], facts_of, emit)
    reports.start(rows)         # the rows already in metrics.jsonl: each tool takes those it lacks
    reports.row(row)            # returns at once
    reports.close()             # waits CLOSE_SECONDS at most
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from engine.protocol.events.training import LoggerFailed, Reporting
from engine.trainer.metrics import MetricsRow
from engine.trainer.process import Emit
from engine.trainer.tracking.loggers import Logger, RunFacts, open_logger

MOST_WAITING = 10_000  # rows of some hundred bytes
CLOSE_SECONDS = 30.0
MOST_CHARS = 300
# A tracking address may contain a name and a password, and a tool repeats it in its errors.
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")

OpenLogger = Callable[[str, RunFacts], Logger]


class Reports:
    """All declared tools. ``facts_of(name)``: what a tool is told of the run."""

    def __init__(
        self, names: Sequence[str], facts_of: Callable[[str], RunFacts], emit: Emit, opener: OpenLogger = open_logger
    ) -> None:
        self._senders = [_Sender(name, facts_of, emit, opener) for name in names]

    def start(self, rows: Iterable[MetricsRow]) -> None:
        """Open the tools; ``rows`` are those of earlier train steps, which a tool may have already."""
        earlier = tuple(rows)
        for sender in self._senders:
            sender.start(earlier)

    def row(self, row: MetricsRow) -> None:
        """Send a row to every tool."""
        for sender in self._senders:
            sender.put(row)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let the tools finish; those that have not after ``seconds`` are abandoned."""
        for sender in self._senders:
            sender.put(None)
        deadline = time.monotonic() + seconds
        for sender in self._senders:
            sender.wait(deadline, seconds)


class _Sender:
    """One tool and its thread."""

    def __init__(self, name: str, facts_of: Callable[[str], RunFacts], emit: Emit, opener: OpenLogger) -> None:
        self._name, self._facts_of, self._emit, self._opener = name, facts_of, emit, opener
        self._waiting: queue.Queue[MetricsRow | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._abandoned = threading.Event()

    def start(self, earlier: Sequence[MetricsRow]) -> None:
        self._thread = threading.Thread(target=self._work, args=(earlier,), name=f"report-{self._name}", daemon=True)
        self._thread.start()

    def put(self, row: MetricsRow | None) -> None:
        if self._abandoned.is_set() or self._thread is None:
            return
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self._abandon(f"it is {MOST_WAITING} rows behind")

    def wait(self, deadline: float, seconds: float) -> None:
        if self._thread is None or self._abandoned.is_set():
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._abandon(f"it did not finish within {seconds:g} s")

    def _work(self, earlier: Sequence[MetricsRow]) -> None:
        try:
            writer = self._opener(self._name, self._facts_of(self._name))
            self._emit(Reporting(self._name, without_userinfo(writer.where)))
            last = writer.last_step
            for row in self._rows(earlier):
                if row["train_step"] > last:
                    writer.row(row["train_step"], numbers(row))
            writer.close()
        except Exception as error:  # noqa: BLE001 - whatever a tool raises becomes an event, and training continues
            self._abandon(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    def _rows(self, earlier: Sequence[MetricsRow]) -> Iterator[MetricsRow]:
        yield from earlier
        while not self._abandoned.is_set():
            row = self._waiting.get()
            if row is None:
                return
            yield row

    def _abandon(self, reason: str) -> None:
        if not self._abandoned.is_set():
            self._abandoned.set()
            reason = without_userinfo(reason)[:MOST_CHARS]
            self._emit(LoggerFailed(self._name, reason))


def numbers(row: MetricsRow) -> dict[str, float]:
    """What tools can plot: the numbers of a row without the train step.

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
