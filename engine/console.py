"""What a person watches while a run goes on: a live display on a terminal, plain lines elsewhere.

What goes in: the calls of :class:`Console`, made by the runner (steps) and by handlers (live events of the
trainer: ``train_step``, ``generated``, ``eval``, ``checkpoint``, …). What comes out: text on standard error;
standard output belongs to the command's answer.

    >>> describe({"event": "train_step", "train_step": 10, "num_train_steps": 300, "loss": 2.5})
    'train step 10/300 · loss 2.5000'

``rich`` is imported by the live display alone; a pipe, a notebook or ``--json`` never pays for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

from engine.log import redact

LINE_EVERY_SECONDS = 2.0  # a notebook or a CI log should stay readable: one line of progress in 2 s
INDENT = "      "
# Which facts of a finished step are worth a person's line, in this order.
SHOWN_FACTS = (
    "n_rows",
    "n_duplicates",
    "n_overlap",
    "n_dropped",
    "params",
    "final_loss",
    "final_eval_loss",
    "n_items",
    "n_scored",
    "primary_score",
    "tokens_per_second",
    "killed_at",
    "resumed_from",
)


class Console(Protocol):
    """The calls that a run makes. ``planned`` is a PlannedStep; ``index`` counts from 1."""

    def step_started(self, planned: Any, index: int, total: int) -> None:
        """A step begins."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Something happened inside the running step; ``event["event"]`` names it."""

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


def duration(seconds: float) -> str:
    """``48s``, ``1m 53s``, ``2h 05m``.

    >>> duration(113.4)
    '1m 53s'
    """
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def number(value: Any) -> str:
    """A figure for people: 4 decimals below 100, thousands separated above.

    >>> number(0.95), number(7_300.4), number(730_112)
    ('0.9500', '7,300', '730,112')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def _progress(event: Mapping[str, Any], what: str, done: str, total: str) -> str:
    count = f"{event.get(done, '?')}"
    if event.get(total) is not None:
        count += f"/{event[total]}"
    parts = [f"{what} {count}"]
    if event.get("loss") is not None:
        parts.append(f"loss {number(event['loss'])}")
    if event.get("tokens_per_second") is not None:
        parts.append(f"{event['tokens_per_second']:,.0f} tokens/s")
    if event.get("seconds_left") is not None:
        parts.append(f"{duration(event['seconds_left'])} left")
    return " · ".join(parts)


def _started(event: Mapping[str, Any]) -> str:
    parts = [str(event[key]) for key in ("device_kind", "platform") if event.get(key)][:1]
    devices = event.get("devices") or ()
    if len(devices) > 1:
        parts.append(f"{len(devices)} devices")
    if event.get("params") is not None:
        parts.append(f"{number(event['params'])} parameters")
    if event.get("n_rows") is not None:
        parts.append(f"{number(event['n_rows'])} rows")
    if event.get("real_token_share") is not None:
        parts.append(f"{100 * event['real_token_share']:.0f} % of each batch are real tokens")
    return "on " + ", ".join(parts) if parts else "started"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "started": _started,
    "train_step": lambda event: _progress(event, "train step", "train_step", "num_train_steps"),
    "generated": lambda event: _progress(event, "generated", "done", "total"),
    "compiled": lambda event: f"compiled in {duration(event['seconds'])}",
    "eval": lambda event: f"evaluated after train step {event['train_step']}: loss {number(event['eval_loss'])}",
    "checkpoint": lambda event: f"checkpoint at train step {event['train_step']}",
    "restored": lambda event: f"went on from the checkpoint of train step {event['train_step']}",
    "fallback": lambda event: (
        f"the checkpoint of train step {event['train_step']} is unusable "
        f"({event.get('reason', 'damaged')}); using the one before"
    ),
    "ready_to_die": lambda event: f"checkpoint {event['train_step']} is safe; killing the trainer on purpose",
    "stopped": lambda event: f"stopped after train step {event['train_step']}; state saved",
}
_SILENT = frozenset({"finished", "devices", "error"})  # the runner says these in its own words
PROGRESS_EVENTS = frozenset({"train_step", "generated"})


def describe(event: Mapping[str, Any]) -> str | None:
    """One line about a live event, or None where the runner speaks for it. Unknown events show as they are.

    An event that lacks a field (a plug-in's, say) is shown raw rather than failing the run it reports on.
    """
    name = str(event.get("event", ""))
    if name in _SILENT:
        return None
    facts = " · ".join(f"{key} {number(value)}" for key, value in event.items() if key != "event")
    raw = " · ".join(part for part in (name, facts) if part)
    if name not in _WORDS:
        return raw or None
    try:
        return _WORDS[name](event)
    except (KeyError, TypeError, ValueError):
        return raw


def shown_facts(facts: Mapping[str, Any]) -> str:
    """`` · n_rows 550 · final_loss 0.1234``: the facts worth a line, or nothing."""
    shown = [name for name in SHOWN_FACTS if isinstance(facts.get(name), int | float)]
    return "".join(f" · {name} {number(facts[name])}" for name in shown)


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

    def _is_due(self, event: Mapping[str, Any]) -> bool:
        """Progress is shown at most every LINE_EVERY_SECONDS, but the first and the last always."""
        name = str(event.get("event", ""))
        if name not in PROGRESS_EVENTS:
            return True
        now = self._clock()
        done, total = ("train_step", "num_train_steps") if name == "train_step" else ("done", "total")
        is_last = event.get(done) is not None and event.get(done) == event.get(total)
        if is_last or name not in self._last or now - self._last[name] >= LINE_EVERY_SECONDS:
            self._last[name] = now
            return True
        return False

    def event(self, event: Mapping[str, Any]) -> None:
        """One line, unless the last one of its kind is too recent."""
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
    """Several consoles as one: the display and the log of the run. Of none at all it is the silent one."""

    def __init__(self, *consoles: Console) -> None:
        self.consoles = consoles

    def step_started(self, planned: Any, index: int, total: int) -> None:
        """Pass on."""
        for console in self.consoles:
            console.step_started(planned, index, total)

    def event(self, event: Mapping[str, Any]) -> None:
        """Pass on."""
        for console in self.consoles:
            console.event(event)

    def note(self, text: str) -> None:
        """Pass on."""
        for console in self.consoles:
            console.note(text)

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        """Pass on."""
        for console in self.consoles:
            console.step_finished(step_id, seconds, facts)

    def step_skipped(self, step_id: str, reason: str) -> None:
        """Pass on."""
        for console in self.consoles:
            console.step_skipped(step_id, reason)

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """Pass on."""
        for console in self.consoles:
            console.finished(ran, skipped, seconds)

    def close(self) -> None:
        """Pass on."""
        for console in self.consoles:
            console.close()


def make_console(*, quiet: bool = False, plain: bool = False, stream: TextIO | None = None) -> Console:
    """The console for this output: live on a terminal, plain lines elsewhere, nothing with ``quiet``."""
    if quiet:
        return Tee()
    target = stream or sys.stderr
    if plain or not target.isatty() or os.environ.get("TERM") == "dumb":
        return PlainConsole(stream)
    from engine.live import LiveConsole

    return LiveConsole(target)
