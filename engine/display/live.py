"""The live display of a run on a terminal: a bar for the pipeline, one for the running step, lines above.

What goes in: the calls of :class:`engine.display.plain.Console`. What comes out: rich's repainting on standard
error. NO_COLOR and COLUMNS are honoured by rich itself.

    console = LiveConsole(sys.stderr)   # engine.display.plain.make_console does this on a terminal
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console as Screen
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from engine.display.event_text import PROGRESS, describe, duration, number, shown_facts, size
from engine.redact import redact


class LiveConsole:
    """Two bars that repaint, and lines that stay. The display starts with the first step that runs."""

    def __init__(self, stream: TextIO) -> None:
        self._screen = Screen(file=stream, stderr=False, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            console=self._screen,
            transient=True,
        )
        self._pipeline: TaskID | None = None
        self._work: TaskID | None = None
        self._place = ""

    def _say(self, text: str) -> None:
        # markup=False: a person's "[train]" is text, not a colour.
        self._progress.console.print(redact(text), markup=False)

    def step_started(self, planned: Any, index: int, total: int) -> None:
        """Move the pipeline's bar to this step."""
        self._place = f"[{index}/{total}] "
        if self._pipeline is None:
            self._pipeline = self._progress.add_task("pipeline", total=total, facts="")
            self._progress.start()
        step = planned.step
        self._progress.update(self._pipeline, completed=index - 1, facts=f"{step.id} ({step.uses})")
        self._say(f"{self._place}{step.id} · {step.uses}: {getattr(planned.handler, 'title', '')}")

    def event(self, event: Mapping[str, Any]) -> None:
        """Progress moves the second bar; anything else is a line that stays."""
        if event.get("event") in PROGRESS:
            self._advance(event)
        elif (line := describe(event)) is not None:
            self._say(f"      {line}")

    def _advance(self, event: Mapping[str, Any]) -> None:
        words, done, total = PROGRESS[event["event"]]
        facts = []
        if event["event"] == "download":
            facts.append(str(event["file"]))
        if done.endswith("_bytes"):  # the bar counts bytes, the words say them in a unit for people
            words = f"{words} {size(event[done])} of {size(event[total])}"
        if event.get("bytes_per_second") is not None:
            facts.append(f"{size(event['bytes_per_second'])}/s")
        if event.get("loss") is not None:
            facts.append(f"loss {number(event['loss'])}")
        if event.get("tokens_per_second") is not None:
            facts.append(f"{event['tokens_per_second']:,.0f} tokens/s")
        if event.get("seconds_left") is not None:
            facts.append(f"{duration(event['seconds_left'])} left")
        if self._work is None:
            self._work = self._progress.add_task(words, total=event.get(total), facts="")
        self._progress.update(
            self._work,
            description=words,
            completed=event.get(done, 0),
            total=event.get(total),
            facts=" · ".join(facts),
        )

    def _end_of_work(self) -> None:
        if self._work is not None:
            self._progress.remove_task(self._work)
            self._work = None

    def note(self, text: str) -> None:
        """Lines that stay."""
        for line in text.splitlines():
            self._say(f"      {line}")

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        """Remove the step's bar, leave one line."""
        self._end_of_work()
        if self._pipeline is not None:
            self._progress.advance(self._pipeline)
        self._say(f"{self._place}{step_id} done in {duration(seconds)}{shown_facts(facts)}")

    def step_skipped(self, step_id: str, reason: str) -> None:
        """One line."""
        self._say(f"      {step_id} skipped: {reason}")

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """Take the bars away and sum up."""
        self.close()
        if not ran:
            self._say(f"nothing to do: all {len(skipped)} steps are done already")
            return
        self._say(f"{len(ran)} steps ran, {len(skipped)} skipped, in {duration(seconds)}")

    def close(self) -> None:
        """Give the terminal back."""
        self._end_of_work()
        self._progress.stop()
