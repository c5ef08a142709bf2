"""What a person watches while a run goes on: a live display on a terminal, plain lines elsewhere.

In: the calls of :class:`Console`, made by the runner (steps) and by handlers (live events of the
trainer: ``train_step``, ``generated``, ``eval``, ``checkpoint``, …). Out: text on standard error;
standard output belongs to the command's answer.

    console = make_console()        # live on a terminal, plain lines in a pipe

``rich`` is imported by the live display alone; a pipe, a notebook or ``--json`` never pays for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

from engine.display.event_text import describe, shown_facts
from engine.protocol.events import event_of
from engine.protocol.events.base import Event
from engine.protocol.figures import duration
from engine.redact import redact

LINE_EVERY_SECONDS = 2.0  # a notebook or a CI log should stay readable: one line of progress in 2 s
INDENT = "      "


class Console(Protocol):
    """The calls that a run makes. ``planned`` is a PlannedStep; ``index`` counts from 1."""

    def step_started(self, planned: Any, index: int, total: int) -> None:
        """A step begins."""

    def event(self, event: Event | Mapping[str, Any]) -> None:
        """Something happened inside the running step; a step from another package sends a mapping."""

    def note(self, text: str) -> None:
        """One line for the person."""

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        """The step has published its artifact."""

    def step_skipped(self, step_id: str, reason: str) -> None:
        """The step had nothing to do."""

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """No step is left. Also called after a failure, with what ran until then."""

    def close(self) -> None:
        """Give the terminal back, whatever happened. May be called twice."""


class PlainConsole:
    """Readable lines, never rewritten: for pipes, logs and notebooks."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last: dict[str, float] = {}
        self._label = ""

    def _print(self, text: str) -> None:
        # sys.stderr is read at the time of the call: a notebook or a test may have replaced it.
        print(redact(text), file=self._stream or sys.stderr, flush=True)

    def step_started(self, planned: Any, index: int, total: int) -> None:
        """``[3/6] train · train_sft: trains the model``."""
        self._label = f"[{index}/{total}] "
        self._last.clear()
        title = getattr(planned.handler, "title", "")
        words = f"{planned.step.uses}: {title}" if title else planned.step.uses
        self._print(f"{self._label}{planned.step.id} · {words}")

    def _is_due(self, event: Event) -> bool:
        """Progress is shown at most every LINE_EVERY_SECONDS, but the first and the last always."""
        if event.bar is None:
            return True
        now, name = self._clock(), event.name
        done, total = event.progress()
        if done == total or name not in self._last or now - self._last[name] >= LINE_EVERY_SECONDS:
            self._last[name] = now
            return True
        return False

    def event(self, event: Event | Mapping[str, Any]) -> None:
        """One line, unless the last one of its kind is too recent."""
        event = event_of(event)
        if self._is_due(event) and (line := describe(event)) is not None:
            self._print(f"{INDENT}{line}")

    def note(self, text: str) -> None:
        """The text, indented under its step."""
        for line in text.splitlines():
            self._print(f"{INDENT}{line}")

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        """``[3/6] train done in 1m 53s · final_loss 0.0123``."""
        self._print(f"{self._label}{step_id} done in {duration(seconds)}{shown_facts(facts)}")

    def step_skipped(self, step_id: str, reason: str) -> None:
        """``      dataset skipped: nothing changed``."""
        self._print(f"{INDENT}{step_id} skipped: {reason}")

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """How many steps ran and were skipped, and how long it took."""
        if not ran:
            self._print(f"nothing to do: all {len(skipped)} steps are done already")
            return
        self._print(f"{len(ran)} steps ran, {len(skipped)} skipped, in {duration(seconds)}")

    def close(self) -> None:
        """Nothing to give back."""


class Tee:
    """Several consoles as one: the display and the log of the run. Of none at all it is the silent one.

    One that cannot be written any more (the terminal was closed, the disk is full) is told nothing further: that costs
    the display, not the run.
    """

    def __init__(self, *consoles: Console) -> None:
        self.consoles = list(consoles)

    def _each(self, call: Callable[[Console], None]) -> None:
        for console in tuple(self.consoles):
            try:
                call(console)
            except OSError:
                self.consoles.remove(console)

    def step_started(self, planned: Any, index: int, total: int) -> None:
        """Pass on."""
        self._each(lambda console: console.step_started(planned, index, total))

    def event(self, event: Event | Mapping[str, Any]) -> None:
        """Pass on."""
        self._each(lambda console: console.event(event))

    def note(self, text: str) -> None:
        """Pass on."""
        self._each(lambda console: console.note(text))

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        """Pass on."""
        self._each(lambda console: console.step_finished(step_id, seconds, facts))

    def step_skipped(self, step_id: str, reason: str) -> None:
        """Pass on."""
        self._each(lambda console: console.step_skipped(step_id, reason))

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """Pass on."""
        self._each(lambda console: console.finished(ran, skipped, seconds))

    def close(self) -> None:
        """Pass on."""
        self._each(lambda console: console.close())


def make_console(*, quiet: bool = False, plain: bool = False, stream: TextIO | None = None) -> Console:
    """The console for this output: live on a terminal, plain lines elsewhere, nothing with ``quiet``."""
    if quiet:
        return Tee()
    target = stream or sys.stderr
    if plain or not target.isatty() or os.environ.get("TERM") == "dumb":
        return PlainConsole(stream)
    from engine.display.live import LiveConsole

    return LiveConsole(target)
