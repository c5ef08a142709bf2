"""Batches made ahead by a thread, so that the device never waits for its input.

In: a pure function of the number of the train step. Out: its results, step by step, made while earlier steps run. A
step's batch depends on its number alone: resuming needs no state of the prefetch.

    >>> with Prefetch(lambda train_step: train_step * train_step, first=3, last=5) as batches:
    ...     [batches(3), batches(4), batches(5)]
    [9, 16, 25]
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

AHEAD = 2  # batches in the queue: one hides the time to make it, the second the delays of a busy machine
Made = TypeVar("Made")


class Prefetch(Generic[Made]):
    """Call it with ``first``, ``first + 1``, … ``last``; it raises what ``make`` raised. Leaving it stops the thread."""

    def __init__(self, make: Callable[[int], Made], *, first: int, last: int, ahead: int = AHEAD) -> None:
        self._make, self._steps, self._next = make, range(first, last + 1), first
        self._made: queue.Queue[Made | _Failure] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the thread end: it may be waiting for a free slot in the queue."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._made.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def __call__(self, train_step: int) -> Made:
        """The batch of the next step; waits until it is made."""
        if train_step != self._next:
            raise ValueError(f"train step {train_step} was requested, but {self._next} is next")
        made = self._made.get()
        if isinstance(made, _Failure):
            raise made.error
        self._next += 1
        return made

    def _work(self) -> None:
        for train_step in self._steps:
            if self._closed.is_set():
                return
            try:
                made: Made | _Failure = self._make(train_step)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the thread that waits for the batch raises it
                made = _Failure(error)
            self._made.put(made)
            if isinstance(made, _Failure):
                return


class _Failure:
    """What ``make`` raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
