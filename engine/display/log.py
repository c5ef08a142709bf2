"""The log of a run, and the file of a traceback. Both are redacted.

In: the calls of a console. Out: ``.runspec/logs/<run_version>.jsonl``, one JSON object a line.

structlog takes 0.2 s to import, so it is imported with the first line: a run with nothing to do writes no log and does
not spend the time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from engine.canonical import readable, write_atomic
from engine.display.event_text import typed
from engine.redact import redact, redact_value

if TYPE_CHECKING:
    from engine.protocol.events.base import Event

if TYPE_CHECKING:
    from engine.pipeline.plan import PlannedStep


def _redacting(_logger: Any, _method: str, event: Any) -> Any:
    """The structlog processor: the last one before the JSON is written."""
    return redact_value(event)


def _as_text(value: object) -> str:
    """Values without a JSON form (a path, say) are written as text."""
    return str(value)


def _structlog() -> Any:
    """The module. Signals are blocked meanwhile: their handlers write lines too, and would see it half imported."""
    blocked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        import structlog
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return structlog


def jsonl_logger(stream: TextIO, **bound: Any) -> Any:
    """A structlog logger that writes one redacted JSON object a line: time (UTC), level, event, facts."""
    structlog = _structlog()
    return structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%SZ", utc=True, key="time"),
            _redacting,
            structlog.processors.JSONRenderer(default=_as_text, ensure_ascii=False),
        ],
        **bound,
    )


class RunLog:
    """The log of one run: a console whose calls each write one line of JSONL.

    Skipped steps are written once a step runs, so that a run with nothing to do does not touch the log.
    """

    def __init__(self, path: Path, *, run_version: str, command: str) -> None:
        self.path = path
        self._bound = {"run_version": run_version}
        self._pending: list[tuple[str, dict[str, Any]]] = [("run_started", {"command": command})]
        self._logger: Any = None
        self._stream: TextIO | None = None
        self._has_failed = False

    def _write(self, event: str, **facts: Any) -> None:
        """One line. If it cannot be written, the run continues without a log, after one warning."""
        if self._has_failed:
            return
        try:
            self._write_line(event, facts)
        except OSError as error:
            self._has_failed = True
            sys.stderr.write(f"warning: no log is kept: {self.path}: {error.strerror or error}\n")

    def _write_line(self, event: str, facts: Mapping[str, object]) -> None:
        if self._logger is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_fifo():  # it would be waited for until somebody reads it
                raise OSError(errno.EEXIST, "something else is at that path", str(self.path))
            self._stream = self.path.open("a", encoding="utf-8", errors="backslashreplace")
            self._logger = jsonl_logger(self._stream).bind(**self._bound)
            for name, details in self._pending:
                self._logger.info(name, **details)
            self._pending.clear()
        self._logger.info(event, **facts)

    def step_started(self, planned: PlannedStep, index: int, total: int) -> None:
        """A step begins."""
        step = planned.step
        facts = {"step": step.id, "uses": step.uses, "reason": planned.reason}
        self._write("step_started", index=index, total=total, **facts)

    def event(self, event: Event | Mapping[str, object]) -> None:
        """A live event of a step; its own name becomes ``event``."""
        values = typed(event).as_json()
        facts = {key: value for key, value in values.items() if key not in ("event", "level", "time")}
        self._write(values["event"] or "event", **facts)

    def note(self, text: str) -> None:
        """One line of text."""
        self._write("note", text=text)

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, object]) -> None:
        """A step has published its artifact."""
        self._write("step_finished", step=step_id, seconds=round(seconds, 3), facts=dict(facts))

    def step_skipped(self, step_id: str, reason: str) -> None:
        """A step does not run."""
        if self._logger is None:
            self._pending.append(("step_skipped", {"step": step_id, "reason": reason}))
        else:
            self._write("step_skipped", step=step_id, reason=reason)

    def finished(self, ran: Iterable[str], skipped: Iterable[str], seconds: float) -> None:
        """The run is over; nothing is written when nothing ran."""
        ran = list(ran)
        if ran:
            self._write("run_finished", ran=ran, skipped=list(skipped), seconds=round(seconds, 3))

    def close(self) -> None:
        """Close the file. The next call would open it again."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # a full disk was reported when the line was written
                self._stream.close()
        self._stream = self._logger = None


def write_traceback(error: BaseException, command: str, project: Path | None) -> Path | None:
    """Write a redacted traceback (never local variables), for bug reports; returns its path, None where no disk takes it.

    It goes into the project's ``.runspec/logs``; without a project, or where that cannot be written, into the system's
    temporary folder. A crash never makes a project of a folder.
    """
    lines = [f"command: {command}", "", *traceback.format_exception(error)]
    text = redact("\n".join(line.rstrip("\n") for line in lines) + "\n")
    name = f"crash-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.log"
    if project is not None:
        with contextlib.suppress(OSError):
            path = project / ".runspec" / "logs" / name
            write_atomic(path, readable(text))
            return path
    with contextlib.suppress(OSError):  # there may be no temporary folder either
        path = Path(tempfile.gettempdir()) / f"runspec-{name}"
        write_atomic(path, readable(text))
        return path
    return None
