"""A session that a test writes: outputs, log, final state, and how long each state lasts.

>>> Script(files={"a.txt": "hi"}, log=["hello"], queued_polls=1, running_polls=1).state
'COMPLETE'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from tests.kaggle.platform.world.files import Files, StoredFile, stored_files
from tests.kaggle.platform.world.sessions import COMPLETE, QUEUED, RUNNING, LogEntry, Session

if TYPE_CHECKING:
    from tests.kaggle.platform.world.kernels import KernelVersion
    from tests.kaggle.platform.world.world import World

# A line, a line with its time in seconds, or with its time and its stream.
LogLine: TypeAlias = str | tuple[float, str] | tuple[float, str, str]


@dataclass(frozen=True)
class Script:
    """What becomes of a version. ``files`` and ``log`` may be functions of the version (its text has the nonce).

    A state lasts until its seconds have passed on the platform's clock **and** its number of status requests was answered.
    """

    files: Files | Callable[[KernelVersion], Files] = field(default_factory=dict)
    log: Sequence[LogLine] | Callable[[KernelVersion], Sequence[LogLine]] = ()
    state: str = COMPLETE
    failure_message: str | None = None
    queued_seconds: float = 0.0
    running_seconds: float = 0.0
    queued_polls: int = 0
    running_polls: int = 0

    def begin(self, number: int, version: KernelVersion, world: World) -> Session:
        """The session of this version."""
        return ScriptedSession(number, self, version, world)


def _entry(line: LogLine, index: int) -> LogEntry:
    if isinstance(line, str):
        return LogEntry("stdout", float(index), line if line.endswith("\n") else f"{line}\n")
    return LogEntry(line[2] if len(line) == 3 else "stdout", float(line[0]), line[1])


class ScriptedSession(Session):
    """Plays a :class:`Script`."""

    def __init__(self, number: int, script: Script, version: KernelVersion, world: World) -> None:
        super().__init__(number, world.clock, version.limit)
        self._script = script
        lines = script.log(version) if callable(script.log) else script.log
        self._log = [_entry(line, index) for index, line in enumerate(lines)]
        self._version = version
        self._output: list[StoredFile] | None = None

    def log(self) -> Sequence[LogEntry]:
        """While it runs: what the clock has reached."""
        if self.lost:
            return []
        over = self.is_over
        return [entry for entry in self._log if over or (self.started_at is not None and entry.time <= self._ran())]

    def output(self) -> Sequence[StoredFile]:
        """Made once, when it is over."""
        if self.lost:
            return []
        if self._output is None:
            files = self._script.files
            made = files(self._version) if callable(files) else files
            self._output = stored_files(made, self.ended_at)
        return self._output

    def close(self) -> None:
        """Nothing runs."""

    def _look(self) -> None:
        script, now = self._script, self._clock.now()
        if self._state == QUEUED and self.polls >= script.queued_polls + (script.queued_polls > 0):
            due = self.queued_at + timedelta(seconds=script.queued_seconds)
            if now >= due:
                self._start(now if script.queued_polls else due)
        polls = script.queued_polls + script.running_polls
        if self._state == RUNNING and self.started_at and self.polls >= polls + (script.running_polls > 0):
            due = self.started_at + timedelta(seconds=min(script.running_seconds, self.limit))
            if now >= due and script.running_seconds < self.limit:
                self._end(script.state, now if script.running_polls else due)
                self.failure_message = script.failure_message
