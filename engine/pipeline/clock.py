"""When a step ran, on a machine whose clock may be set while it runs: by a person, by NTP, after a pause of the virtual machine.

In: two clocks, the wall's and one that nobody can set. Out: for each step a start, an end that is never before it, and a remark where
the wall's clock cannot be trusted. The remark goes into the step's facts, so that the evidence says so.

    clock = Clock()
    started = clock.start()
    …
    period = clock.stop(started)     # Period(started_at, finished_at, remark)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.artifacts.journal import iso_time
from engine.protocol.deadline import steady_seconds

JUMP_SECONDS = 2.0  # both clocks are slewed alike, so that they only part where one of them is set
NEVER_SET_BEFORE = "2024-01-01"  # this engine is younger
REMARK = "clock"  # the key of a step's facts


@dataclass(frozen=True, slots=True)
class Period:
    """ISO 8601, UTC; ``remark`` is None where the wall's clock went as it should."""

    started_at: str
    finished_at: str
    remark: str | None


@dataclass(frozen=True, slots=True)
class Started:
    """The beginning of a step by both clocks."""

    wall: float
    steady: float
    remarks: tuple[str, ...]


class Clock:
    """The two clocks side by side. A jump between two steps is the next step's."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady_seconds) -> None:
        self._wall, self._steady = wall, steady
        self._apart = wall() - steady()

    def _jump(self, when: str, wall: float, steady: float) -> list[str]:
        """The remark about a jump since the last look at the clocks."""
        jumped, self._apart = wall - steady - self._apart, wall - steady
        if abs(jumped) < JUMP_SECONDS:
            return []
        return [f"the clock was set {'back' if jumped < 0 else 'forward'} by {abs(jumped):.0f} s {when} this step"]

    def start(self) -> Started:
        """A step begins."""
        wall, steady = self._wall(), self._steady()
        return Started(wall, steady, tuple(self._jump("before", wall, steady)))

    def stop(self, started: Started) -> Period:
        """It ends. Where the clock was set back beyond its start, its end is the start and the seconds that it took."""
        wall, steady = self._wall(), self._steady()
        remarks = [*started.remarks, *self._jump("during", wall, steady)]
        if wall < started.wall:
            wall = started.wall + max(0.0, steady - started.steady)
        period = iso_time(started.wall), iso_time(wall)
        if min(period) < NEVER_SET_BEFORE:
            remarks.append(f"the clock said {min(period)}: it had not been set")
        return Period(*period, "; ".join(remarks) or None)


def clock_facts(before: str | None, began: str) -> dict[str, str]:
    """The key of the record's ``environment`` for a session that begins, says the clock, before what an earlier one wrote down.

    >>> clock_facts("2026-01-02T00:00:00Z", "1970-01-01T00:00:09Z")
    {'clock': 'the last session began at 1970-01-01T00:00:09Z, before an event of an earlier one (2026-01-02T00:00:00Z)'}
    """
    if before is None or before <= began:
        return {}
    return {REMARK: f"the last session began at {began}, before an event of an earlier one ({before})"}
