"""The platform's clock: real time that a test can move, and what answers show of it.

>>> clock = Clock(datetime(2026, 11, 28, 20, tzinfo=UTC), ticking=False)
>>> clock.advance(90)
>>> clock.now().isoformat()
'2026-11-28T20:01:30+00:00'
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime


class Clock:
    """Ticks by itself unless told otherwise; :meth:`advance` moves it and wakes whoever waits for it."""

    def __init__(self, start: datetime | None = None, *, ticking: bool = True) -> None:
        self._start = start or datetime.now(UTC)
        self._since = time.monotonic()
        self._ticking = ticking
        self._moved = timedelta()
        self._changed = threading.Condition()
        self.skew = timedelta()

    def now(self) -> datetime:
        """The platform's time: sessions, quota and tokens live by it."""
        passed = time.monotonic() - self._since if self._ticking else 0.0
        return self._start + self._moved + timedelta(seconds=passed)

    def advance(self, seconds: float) -> None:
        """Move the clock; a driver's `sleep` in a test."""
        with self._changed:
            self._moved += timedelta(seconds=seconds)
            self._changed.notify_all()

    def wait(self, real_seconds: float) -> None:
        """Wait until the clock is moved or this much real time has passed."""
        with self._changed:
            self._changed.wait(real_seconds)

    def shown(self) -> datetime:
        """The time that answers show: wrong by ``skew``."""
        return self.now() + self.skew


def stamp(when: datetime) -> str:
    """As the API writes times: ``2026-11-28T20:00:00Z``."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def http_date(when: datetime) -> str:
    """As headers write times: ``Sat, 28 Nov 2026 20:00:00 GMT``."""
    return format_datetime(when.astimezone(UTC).replace(microsecond=0), usegmt=True)
