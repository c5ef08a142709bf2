"""What a run leaves in its log, and the one place where secrets are taken out of text.

What goes in: text or JSON values from anywhere, a child's standard error included. What comes out: the same
with every secret replaced by ``***``, and ``.runspec/logs/<run_version>.jsonl``, one JSON object a line.

A secret is the value (8 characters or more) of an environment variable whose name says TOKEN, SECRET, KEY
or PASSWORD, and whatever looks like a Hugging Face or Kaggle token. It is found as it stands, and in the
forms in which libraries print it: base64 (at each of the three alignments), URL-quoted, JSON-escaped.

    >>> redact("login with hf_" + "x" * 34)
    'login with ***'

structlog takes 0.2 s to import, so it is loaded by the first line that is written: a run with nothing to do
has nothing to log and does not pay for it.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from engine.canonical import write_atomic
from engine.protocol.events import event_json, event_of
from engine.protocol.events.base import Event

MASK = "***"
MIN_SECRET_CHARS = 8  # shorter values ("1", "true", "admin") would mask half of every log

_SECRET_NAME = re.compile(r"TOKEN|SECRET|KEY|PASSWORD", re.IGNORECASE)
_TOKEN_SHAPES = (r"hf_[A-Za-z0-9]{16,}", r"KGAT_[A-Za-z0-9_-]{8,}")


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values that must never be shown. A secret of several lines counts line by line too."""
    found: set[str] = set()
    for name, value in environ.items():
        if _SECRET_NAME.search(name):
            found.update(part.strip() for part in (value, *value.splitlines()))
    return tuple(sorted(value for value in found if len(value) >= MIN_SECRET_CHARS))


def _base64_forms(secret: str) -> Iterator[str]:
    """The characters of base64 that depend on the secret alone, at each alignment in a longer text.

    Three bytes become four characters, so a secret that starts 1 byte into a group shares its first two
    characters with what stands before it (2 bytes: three characters); the tail is cut the same way.
    """
    data = secret.encode("utf-8", "surrogateescape")
    for offset, shared in ((0, 0), (1, 2), (2, 3)):
        whole = (offset + len(data)) * 8 // 6
        standard = base64.b64encode(b"\0" * offset + data).decode()[shared:whole]
        yield standard
        yield standard.replace("+", "-").replace("/", "_")


def _forms(secret: str) -> Iterator[str]:
    """Every way in which the secret may be spelled."""
    yield secret
    quoted = [urllib.parse.quote(secret, safe=safe, errors="surrogateescape") for safe in ("", "/", "/:")]
    quoted.append(quoted[0].replace("%20", "+"))
    yield from quoted
    yield from (re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in quoted)
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
    yield repr(secret)[1:-1]
    yield from _base64_forms(secret)


@functools.lru_cache(maxsize=8)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_SECRET_CHARS}
    # Longest first: of two secrets where one begins with the other, the whole longer one has to go.
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join([*map(re.escape, ordered), *_TOKEN_SHAPES]))


def redact(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The text without secrets. Repeats until nothing is found: a cut may join two halves of a secret."""
    pattern = _pattern(secrets_of(os.environ if environ is None else environ))
    while True:
        # The mask is shorter than any secret, so each round shortens the text and the loop ends.
        cleaned = pattern.sub(MASK, text)
        if cleaned == text:
            return cleaned
        text = cleaned


def redact_value(value: Any, environ: Mapping[str, str] | None = None) -> Any:
    """The same JSON value with every string in it, keys included, redacted."""
    if isinstance(value, str):
        return redact(value, environ)
    if isinstance(value, Mapping):
        return {redact(str(key), environ): redact_value(item, environ) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item, environ) for item in value]
    return value


def _redacting(_logger: Any, _method: str, event: Any) -> Any:
    """The structlog processor: it stands last before the JSON is written."""
    return redact_value(event)


def _plain(value: Any) -> str:
    """What JSON has no form for (a path, say) is written as text."""
    return str(value)


def _structlog() -> Any:
    """The module. Signals wait meanwhile: their handlers write lines too, and would find it half imported."""
    waiting = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
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
            structlog.processors.JSONRenderer(default=_plain, ensure_ascii=False),
        ],
        **bound,
    )


class RunLog:
    """The log of one run: the same calls as a console, each one line of JSONL.

    Skipped steps wait until something runs, so that a run with nothing to do leaves the log alone.
    """

    def __init__(self, path: Path, *, run_version: str, command: str) -> None:
        self.path = path
        self._bound = {"run_version": run_version}
        self._waiting: list[tuple[str, dict[str, Any]]] = [("run_started", {"command": command})]
        self._logger: Any = None
        self._stream: TextIO | None = None
        self._is_refused = False

    def _write(self, event: str, **facts: Any) -> None:
        """One line. A disk that refuses costs the log, not the run; the person is told once."""
        if self._is_refused:
            return
        try:
            self._write_line(event, facts)
        except OSError as error:
            self._is_refused = True
            sys.stderr.write(f"warning: no log is kept: {self.path}: {error.strerror or error}\n")

    def _write_line(self, event: str, facts: Mapping[str, Any]) -> None:
        if self._logger is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("a", encoding="utf-8", errors="backslashreplace")
            self._logger = jsonl_logger(self._stream).bind(**self._bound)
            for name, details in self._waiting:
                self._logger.info(name, **details)
            self._waiting.clear()
        self._logger.info(event, **facts)

    def step_started(self, planned: Any, index: int, total: int) -> None:
        """A step begins."""
        step = planned.step
        facts = {"step": step.id, "uses": step.uses, "reason": planned.reason}
        self._write("step_started", index=index, total=total, **facts)

    def event(self, event: Event | Mapping[str, Any]) -> None:
        """A live event of a step; its own name becomes ``event``."""
        values = event_json(event_of(event))
        facts = {key: value for key, value in values.items() if key not in ("event", "level", "time")}
        self._write(values["event"] or "event", **facts)

    def note(self, text: str) -> None:
        """One line for people."""
        self._write("note", text=text)

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        """A step has published its artifact."""
        self._write("step_finished", step=step_id, seconds=round(seconds, 3), facts=dict(facts))

    def step_skipped(self, step_id: str, reason: str) -> None:
        """A step had nothing to do."""
        if self._logger is None:
            self._waiting.append(("step_skipped", {"step": step_id, "reason": reason}))
        else:
            self._write("step_skipped", step=step_id, reason=reason)

    def finished(self, ran: Iterable[str], skipped: Iterable[str], seconds: float) -> None:
        """The run is over; nothing is written when nothing ran."""
        ran = list(ran)
        if ran:
            self._write("run_finished", ran=ran, skipped=list(skipped), seconds=round(seconds, 3))

    def close(self) -> None:
        """Let go of the file. The next call would open it again."""
        if self._stream is not None:
            with contextlib.suppress(OSError):  # a full disk has been reported by the line that met it
                self._stream.close()
        self._stream = self._logger = None


def write_traceback(error: BaseException, command: str, folder: Path) -> Path:
    """Keep a redacted traceback (never local variables) and say where: ``folder`` or the system's temp.

    A bug report needs it, and a read-only project must not hide it.
    """
    lines = [f"command: {command}", "", *traceback.format_exception(error)]
    text = redact("\n".join(line.rstrip("\n") for line in lines) + "\n")
    name = f"crash-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.log"
    try:
        write_atomic(folder / name, text)
        return folder / name
    except OSError:
        fallback = Path(tempfile.gettempdir()) / f"runspec-{name}"
        write_atomic(fallback, text)
        return fallback
