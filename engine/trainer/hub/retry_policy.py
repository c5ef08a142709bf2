"""Retries: which failures are temporary, how long to wait, and when to stop retrying.

    listing = retry.call(lambda: client.info(repository))

Waits of 1, 2, 4 and 8 seconds (or as long as the hub's Retry-After says), each announced by a ``hub_retry`` event and
ended at once by a stop request. A request that the hub refused is never repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from engine.errors import Interrupted, Where
from engine.protocol.events.inputs import HubRetry
from engine.trainer.hub.client import Source
from engine.trainer.hub.errors import is_temporary, reason_of, status_of
from engine.trainer.process import Emit, Stopping

Result = TypeVar("Result")

WAITS = (1.0, 2.0, 4.0, 8.0)
LONGEST_DELAY = 120.0  # if the hub asks for more, the fetch fails and the user runs it again
POLL_SECONDS = 0.1


class RetryPolicy:
    """One fetch's waits; ``used`` counts those since the last progress."""

    def __init__(self, emit: Emit, stopping: Stopping, repository: Source) -> None:
        self._emit, self.stopping, self._repository = emit, stopping, repository
        self.used = 0
        self.is_temporary = is_temporary

    def call(self, request: Callable[[], Result], give_up: Callable[[Exception], bool] = lambda _: False) -> Result:
        """The response. Raises the client's exception if it is final, or the waits are used up."""
        while True:
            try:
                response = request()
            except Exception as error:  # classified below; a final one is raised again
                pause = None if give_up(error) else self.pause_after(error)
                if pause is None:
                    raise
                reason = reason_of(error, self._repository.host)
            else:
                self.used = 0
                return response
            self.wait(pause, reason)

    def pause_after(self, error: Exception) -> float | None:
        """How long to wait before the next attempt; None: no further attempt."""
        if not is_temporary(error) or self.used >= len(WAITS):
            return None
        pause = _retry_after(error) or WAITS[self.used]
        if pause > LONGEST_DELAY:
            return None
        self.used += 1
        return pause

    def wait(self, seconds: float, reason: str) -> None:
        """Wait, unless asked to stop. Raises Interrupted M408."""
        self._emit(HubRetry(reason, seconds))
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check_stop()
            time.sleep(min(POLL_SECONDS, left))

    def check_stop(self) -> None:
        """Raises Interrupted M408 after a stop request."""
        if self.stopping():
            raise Interrupted(
                "M408",
                f"stopped while fetching {self._repository.id}",
                where=Where(file=self._repository.id),
                hint="what has been fetched is kept, and the next run resumes from there",
            )


def _retry_after(error: Exception) -> float | None:
    """Seconds of a Retry-After header (the form with a date is not used by the hub)."""
    if status_of(error) not in (429, 503):
        return None
    value = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    return float(value) if value.isdecimal() else None
