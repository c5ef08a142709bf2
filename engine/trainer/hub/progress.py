"""The progress of a fetch: ``download`` events, one a second at most, the first and the last always.

progress = DownloadProgress(emit, missing)      # bytes of all files that have to be fetched
progress.file("model.safetensors", 0)
progress.add(65536)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from engine.protocol.events.base import Event
from engine.protocol.events.inputs import Download
from engine.trainer.hub.client import RemoteFile
from engine.trainer.process import Emit

EVENT_EVERY_SECONDS = 1.0


def ignore(_: Event) -> None:
    """Drops an event."""


def never() -> bool:
    """There is no stop request."""
    return False


class DownloadProgress:
    """Counts bytes of all files. The bytes of an earlier attempt count too, but not as speed."""

    def __init__(self, emit: Emit, missing: Sequence[RemoteFile], clock: Callable[[], float] = time.monotonic) -> None:
        self._emit, self._clock = emit, clock
        self.total = sum(file.size for file in missing)
        self._done = self._begun_at = self._received = 0
        self._file = ""
        self._started = clock()
        self._last = float("-inf")

    def file(self, name: str) -> None:
        """Start of the next file."""
        self._file, self._begun_at = name, self._done

    def at(self, offset: int) -> None:
        """The file already has ``offset`` bytes that were not received now: of an earlier attempt, or none."""
        self._done = self._begun_at + offset
        self._say(force=self._last == float("-inf"))

    def add(self, received: int) -> None:
        """Bytes received over the network and written."""
        self._done += received
        self._received += received
        self._say()

    def end_of_file(self) -> None:
        """The file is complete and checked."""
        self._say(force=self._done >= self.total)

    def _say(self, *, force: bool = False) -> None:
        now = self._clock()
        if not force and now - self._last < EVENT_EVERY_SECONDS:
            return
        # The last event is end_of_file's: complete and checked, not merely received.
        if not force and self._done >= self.total:
            return
        self._last = now
        pace = self._received / elapsed if (elapsed := now - self._started) > 0 else 0.0
        left = max(self.total - self._done, 0) / pace if pace > 0 else 0.0
        measured = (round(pace), round(left, 1)) if pace > 0 else (None, None)
        self._emit(Download(self._file, self._done, self.total, *measured))
