"""What a run shows while it works: a live display on a terminal, plain lines elsewhere and in notebooks.

In: the calls of :class:`Console`, made by the runner (steps) and by handlers (live events of the
trainer: ``train_step``, ``generated``, ``eval``, ``checkpoint``, …). Out: text on standard error;
standard output is for the command's answer.

    console = make_console()        # live on a terminal, plain lines in a pipe and in a notebook

Only the live display imports ``rich``: a pipe, a notebook or ``--json`` does not spend the time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from engine.display.event_text import INDENT, describe, facts_text, run_text, shown, typed
from engine.printable import printable
from engine.protocol.figures import duration

if TYPE_CHECKING:
    from engine.pipeline.plan import PlannedStep
    from engine.protocol.events.base import Event

LINE_EVERY_SECONDS = 2.0  # at first: one line of progress in 2 s keeps a notebook or a CI log readable
# Later rarer: an hour then takes 30 kB of a notebook's output, which the platforms bound and keep.
LONGEST_LINE_EVERY_SECONDS, LINES_IN_ALL = 15.0, 50
# What notebooks set for their kernel, whose `!runspec …` has a pseudo-terminal that does not redraw. The terminals of JupyterLab
# have neither of Jupyter's. Kaggle and Colab have no terminal of another kind.
NOTEBOOK_VARIABLES = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "KAGGLE_KERNEL_RUN_TYPE")
NOTEBOOK_PREFIXES = ("COLAB_", "DATABRICKS_")


class Console(Protocol):
    """The calls that a run makes. ``index`` counts from 1."""

    def step_started(self, planned: PlannedStep, index: int, total: int) -> None:
        """A step begins."""

    def event(self, event: Event | Mapping[str, object]) -> None:
        """Something happened inside the running step; a step from another package sends a mapping."""

    def note(self, text: str) -> None:
        """One line to print."""

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, object]) -> None:
        """The step has published its artifact."""

    def step_skipped(self, step_id: str, reason: str) -> None:
        """The step does not run."""

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """The run is over. Also called after a failure, with the steps that ran until then."""

    def close(self) -> None:
        """Restore the terminal, also after a failure. May be called twice."""


def line_every(seconds: float) -> float:
    """Seconds between two lines of progress, this long after a step began.

    >>> line_every(0), line_every(300), line_every(3600)
    (2.0, 6.0, 15.0)
    """
    return min(LONGEST_LINE_EVERY_SECONDS, max(LINE_EVERY_SECONDS, seconds / LINES_IN_ALL))


class PlainConsole:
    """Readable lines, never rewritten: for pipes, logs and notebooks."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last: dict[str, float] = {}
        self._label = ""
        self._began = clock()

    def _print(self, text: str) -> None:
        # sys.stderr is read at the time of the call: a notebook or a test may have replaced it.
        print(shown(text), file=self._stream or sys.stderr, flush=True)

    def step_started(self, planned: PlannedStep, index: int, total: int) -> None:
        """``[3/6] train · train_sft: trains the model``."""
        self._label = f"[{index}/{total}] "
        self._last.clear()
        self._began = self._clock()
        title = getattr(planned.handler, "title", "")
        text = f"{planned.step.uses}: {title}" if title else planned.step.uses
        self._print(f"{self._label}{planned.step.id} · {text}")

    def _is_due(self, event: Event) -> bool:
        """Progress is printed every :func:`line_every` seconds at most; the first and the last always."""
        if event.bar is None:
            return True
        now, name = self._clock(), event.name
        done, total = event.progress()
        if done == total or name not in self._last or now - self._last[name] >= line_every(now - self._began):
            self._last[name] = now
            return True
        return False

    def event(self, event: Event | Mapping[str, object]) -> None:
        """One line, unless the last one of this kind is too recent."""
        event = typed(event)
        if self._is_due(event) and (line := describe(event)) is not None:
            self._print(f"{INDENT}{line}")

    def note(self, text: str) -> None:
        """The text, indented under its step."""
        for line in printable(text).splitlines():
            self._print(f"{INDENT}{line}")

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, object]) -> None:
        """``[3/6] train done in 1m 53s · final_loss 0.0123``."""
        self._print(f"{self._label}{step_id} done in {duration(seconds)}{facts_text(facts)}")

    def step_skipped(self, step_id: str, reason: str) -> None:
        """``      dataset skipped: nothing changed``."""
        self._print(f"{INDENT}{step_id} skipped: {reason}")

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """How many steps ran and were skipped, and how long it took."""
        self._print(run_text(ran, skipped, seconds))

    def close(self) -> None:
        """Nothing to restore."""


class Tee:
    """Several consoles as one: the display and the log of the run. Without any it is silent.

    A console that can no longer be written to (the terminal was closed, the disk is full) is dropped, and the run
    continues.
    """

    def __init__(self, *consoles: Console) -> None:
        self.consoles = list(consoles)

    def _each(self, call: Callable[[Console], None]) -> None:
        for console in tuple(self.consoles):
            try:
                call(console)
            except OSError:
                self.consoles.remove(console)

    def step_started(self, planned: PlannedStep, index: int, total: int) -> None:
        """Pass on."""
        self._each(lambda console: console.step_started(planned, index, total))

    def event(self, event: Event | Mapping[str, object]) -> None:
        """Pass on."""
        self._each(lambda console: console.event(event))

    def note(self, text: str) -> None:
        """Pass on."""
        self._each(lambda console: console.note(text))

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, object]) -> None:
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


def is_notebook(environment: Mapping[str, str]) -> bool:
    """Whether this process belongs to a notebook: Jupyter's (and VS Code's), Kaggle's, Colab's or Databricks'.

    >>> is_notebook({"JPY_PARENT_PID": "7"}), is_notebook({"COLAB_RELEASE_TAG": "release"}), is_notebook({"TERM": "xterm"})
    (True, True, False)
    """
    return any(name in NOTEBOOK_VARIABLES or name.startswith(NOTEBOOK_PREFIXES) for name in environment)


def make_console(*, quiet: bool = False, plain: bool = False, stream: TextIO | None = None) -> Console:
    """The console for this output: live on a terminal, plain lines elsewhere and in notebooks, none with ``quiet``."""
    if quiet:
        return Tee()
    target = stream or sys.stderr
    if plain or not target.isatty() or os.environ.get("TERM") == "dumb" or is_notebook(os.environ):
        return PlainConsole(stream)
    from engine.display.live import LiveConsole

    return LiveConsole(target)
