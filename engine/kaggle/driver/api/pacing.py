"""How long to wait: between looks at a session, before a call is repeated, and as long as the platform asks for.

In: the number of the wait, a clock. Out: seconds. Every wait of the driver goes through a :class:`WaitingClock`, so that a test moves the
time instead of spending it.

    >>> [round(POLLS.seconds(number, jitter=0.5)) for number in range(7)]
    [30, 45, 68, 101, 152, 228, 300]
    >>> retry_after("120", None, now=0.0), retry_after("soon", None, now=0.0)
    (120.0, None)
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol

MOST_ASKED_SECONDS = 3600.0  # a server that asks for a day is asked again after an hour


class WaitingClock(Protocol):
    """The time, and what it takes to let it pass."""

    def now(self) -> float:
        """Seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds that no change of the machine's date moves."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def jitter(self) -> float:
        """A number from 0 to 1, another one each time."""


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that no change of the machine's date moves."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def jitter(self) -> float:
        """A number from 0 to 1."""
        return random.random()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow: ``first`` seconds, then ``factor`` times the last, at most ``most``; each a quarter more or less."""

    first: float
    factor: float
    most: float

    def seconds(self, number: int, jitter: float) -> float:
        """The wait of this number, counted from 0."""
        grown = self.first * self.factor ** min(number, 64)
        return min(grown, self.most) * (0.75 + 0.5 * jitter)


POLLS = Backoff(30.0, 1.5, 300.0)
CALLS = Backoff(1.0, 2.0, 60.0)
CALLS_AT_MOST = 6  # of one request that is safe to repeat: about a minute of a server that is down
RECONCILE = Backoff(5.0, 2.0, 30.0)  # between looks for a version whose push got no answer


def retry_after(value: str | None, date: str | None, *, now: float) -> float | None:
    """Seconds of a ``Retry-After`` header: a number, or a date, which is held beside the server's own ``Date``.

    >>> retry_after("Sat, 28 Nov 2026 20:01:00 GMT", "Sat, 28 Nov 2026 20:00:00 GMT", now=0.0)
    60.0
    """
    if not value:
        return None
    if value.strip().isdigit():
        seconds = float(value)
    else:
        until, since = _epoch(value), _epoch(date)
        if until is None:
            return None
        seconds = until - (now if since is None else since)
    return min(max(seconds, 0.0), MOST_ASKED_SECONDS)


def _epoch(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None
