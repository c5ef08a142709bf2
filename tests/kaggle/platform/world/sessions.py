"""A session: what runs a version. QUEUED → RUNNING → COMPLETE, ERROR, or CANCEL_REQUESTED → CANCEL_ACKNOWLEDGED.

State is worked out from the clock and from how often it was asked for, whenever somebody looks. A session that is cancelled
or runs into its time limit loses output and log: "a cancelled/timed-out version can expose no outputs, logs or reason".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.kaggle.platform.world.clock import Clock
from tests.kaggle.platform.world.files import StoredFile

QUEUED, RUNNING, COMPLETE, ERROR = "QUEUED", "RUNNING", "COMPLETE", "ERROR"
CANCEL_REQUESTED, CANCEL_ACKNOWLEDGED = "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED"
ENDED = frozenset({COMPLETE, ERROR, CANCEL_ACKNOWLEDGED})


@dataclass(frozen=True)
class LogEntry:
    """One piece of the log, as the platform keeps it."""

    stream_name: str
    time: float
    data: str

    @property
    def json(self) -> dict[str, Any]:
        """With the platform's keys."""
        return {"stream_name": self.stream_name, "time": self.time, "data": self.data}


class Session(ABC):
    """What both kinds of session share: the time limit, the cancellation, the states."""

    def __init__(self, number: int, clock: Clock, limit: float) -> None:
        self.number = number
        self.limit = limit
        self._clock = clock
        self._state = QUEUED
        self.polls = 0
        self.queued_at = clock.now()
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.failure_message: str | None = None
        self.lost = False
        self._cancelled_at_poll = 0

    def poll(self) -> str:
        """The state for one who asks for it: asking is counted, and acknowledges a cancellation."""
        self.polls += 1
        if self._state == CANCEL_REQUESTED and self.polls > self._cancelled_at_poll:
            self._state = CANCEL_ACKNOWLEDGED
        return self.state

    @property
    def state(self) -> str:
        """The state now."""
        if self._state in (QUEUED, RUNNING):
            self._look()
        if self._state == RUNNING and self._ran() >= self.limit:
            self._stop(CANCEL_ACKNOWLEDGED)
            self.ended_at = self.started_at and self.started_at + timedelta(seconds=self.limit)
        return self._state

    @property
    def is_over(self) -> bool:
        """Nothing more happens."""
        return self.state in ENDED

    @property
    def run_seconds(self) -> float:
        """How long it ran up to now: what quota counts."""
        return self._ran() if self.state else 0.0

    def cancel(self) -> None:
        """As the button does; nothing where it is over."""
        if not self.is_over:
            self._cancelled_at_poll = self.polls + 1
            self._stop(CANCEL_REQUESTED)

    def fail(self, message: str | None) -> None:
        """The session ends in ERROR now, whatever it was to do; output and log stay as they are."""
        if not self.is_over:
            self._stop(ERROR, lost=False)
            self.failure_message = message

    @abstractmethod
    def close(self) -> None:
        """End what runs: the session was stopped, or the platform goes down."""

    @abstractmethod
    def log(self) -> Sequence[LogEntry]:
        """What was logged so far."""

    @abstractmethod
    def output(self) -> Sequence[StoredFile]:
        """The output files; only asked for once it is over."""

    @abstractmethod
    def _look(self) -> None:
        """Bring the state up to date."""

    def _ran(self) -> float:
        if self.started_at is None:
            return 0.0
        return ((self.ended_at or self._clock.now()) - self.started_at).total_seconds()

    def _start(self, when: datetime) -> None:
        self._state, self.started_at = RUNNING, when

    def _end(self, state: str, when: datetime) -> None:
        self._state, self.ended_at = state, when

    def _stop(self, state: str, *, lost: bool = True) -> None:
        self._end(state, self._clock.now())
        self.lost = lost
        self.close()
