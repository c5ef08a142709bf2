"""When a session has to end, and whether one more unit of work fits before its end. Pure: time comes in as numbers.

In: a limit as a person writes it; measured seconds. Out: seconds; a :class:`Deadline`; yes or no. A session is one attempt of a run: it
ends by itself where the next unit of work, the save after it, the evidence of the unfinished run and the carry-over for the next session
would not all end before the limit, with a margin.

    >>> seconds_of("8h30m"), seconds_of("90s"), default_margin(seconds_of("2m"))
    (30600.0, 90.0, 6.0)
    >>> deadline = Deadline(ends_at=100.0, limit_seconds=100.0, margin_seconds=5.0)
    >>> deadline.fits(80.0, 4.0, 10.0), deadline.fits(86.0, 4.0, 10.0)
    (True, False)
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.protocol.figures import duration

LIMIT = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,7})s)?")
HOW = "hours, minutes and seconds as 8h30m, 45m or 90s"
MARGIN_SHARE, LEAST_MARGIN_SECONDS, MOST_MARGIN_SECONDS, MOST_MARGIN_SHARE = 0.05, 2.0, 300.0, 0.25
MOST_START_SECONDS = 60.0  # a process that is older does other things too: a notebook, a test
WRAP_UP_SECONDS = 0.5  # evidence of an unfinished run, recipe, small files of the carry-over
# Of a disk, until it was measured: slow on purpose, so that the first save of a session does not come too late.
ASSUMED_BYTES_PER_SECOND, ASSUMED_READ_BYTES_PER_SECOND = 50e6, 500e6

StopReason = Literal["request", "deadline"]
Cadence = Literal["declared", "measured"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """``ends_at``: by :func:`steady_seconds`, which all processes of a machine share.

    ``carries``     whether what the next session needs is copied after the last save; ``carried_bytes``: of the finished steps
    ``cadence``     measured: the interval of checkpoints follows from measured seconds, since nobody declared it
    """

    ends_at: float
    limit_seconds: float
    margin_seconds: float
    carries: bool = False
    carried_bytes: int = 0
    cadence: Cadence = "declared"

    @property
    def stop_at(self) -> float:
        """When a step that does not foresee its own end is asked to stop."""
        return self.ends_at - self.margin_seconds - WRAP_UP_SECONDS - self.carry_seconds(self.carried_bytes)

    @property
    def kill_at(self) -> float:
        """When one that has not stopped is killed, so that what it saved is carried over before the end."""
        return self.stop_at + self.margin_seconds / 2

    def fits(self, now: float, *seconds: float) -> bool:
        """Whether work of so many seconds ends before the margin begins."""
        return now + sum(seconds) <= self.stop_at

    def carry_seconds(self, count: int) -> float:
        """Copying so many bytes for the next session; without one to carry to they are only checked."""
        return count / (ASSUMED_BYTES_PER_SECOND if self.carries else ASSUMED_READ_BYTES_PER_SECOND)


def steady_seconds() -> float:
    """Seconds of a clock that nobody sets; it counts while the machine sleeps, where the system has such a clock."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def process_began() -> float:
    """When this process began, by :func:`steady_seconds`: what it took to start counts. Where the system does not say: now."""
    now = steady_seconds()
    try:
        ticks = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        began = int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return began if 0.0 <= now - began < MOST_START_SECONDS else now


def seconds_of(text: str) -> float:
    """A limit in seconds. Raises ValueError with a sentence for a person.

    >>> seconds_of("5")
    Traceback (most recent call last):
        ...
    ValueError: "5" has no unit: 5m are minutes, 5s seconds
    """
    match = LIMIT.fullmatch(text)
    if text.isdigit() and text.isascii():
        raise ValueError(f'"{text}" has no unit: {text}m are minutes, {text}s seconds')
    if not text or match is None:
        raise ValueError(f'"{text}" is no length of time: write {HOW}')
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = float(3600 * hours + 60 * minutes + seconds)
    if total == 0:
        raise ValueError(f'"{text}" is no time at all: write {HOW}')
    return total


def default_margin(limit_seconds: float) -> float:
    """A twentieth of the limit; two seconds at least, five minutes at most, and never more than a quarter of the limit."""
    share = max(MARGIN_SHARE * limit_seconds, LEAST_MARGIN_SECONDS)
    return min(share, MOST_MARGIN_SECONDS, MOST_MARGIN_SHARE * limit_seconds)


def in_words(seconds: float) -> str:
    """``8h30m`` for a limit that is one, and what it takes otherwise: as it is typed.

    >>> in_words(30600.0), in_words(90.0), in_words(4.25)
    ('8h30m', '1m30s', '4.2s')
    """
    if seconds != int(seconds):
        return duration(seconds)
    whole = int(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
