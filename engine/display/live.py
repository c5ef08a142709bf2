"""The live display of a run on a terminal: a bar for the pipeline, one for the running step, lines above.

In: the calls of :class:`engine.display.plain.Console`. Out: rich's live display on standard
error. rich itself respects NO_COLOR and COLUMNS.

    console = LiveConsole(sys.stderr)   # engine.display.plain.make_console does this on a terminal
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console as Screen
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from engine.display.event_text import describe, facts_text, run_text, shown, typed
from engine.printable import one_line, printable
from engine.protocol.events.base import Event
from engine.protocol.events.generation import Generated
from engine.protocol.events.inputs import Download
from engine.protocol.events.training import TrainStep
from engine.protocol.figures import duration, number, size

if TYPE_CHECKING:
    from engine.pipeline.plan import PlannedStep


class _Styled:
    """The stream as rich writes to it, with its own colours and moves: past the door of :mod:`engine.streams`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.write = getattr(stream, "write_styled", stream.write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LiveConsole:
    """Two bars that are redrawn, and lines that stay. The display starts with the first step that runs."""

    def __init__(self, stream: TextIO) -> None:
        self._screen = Screen(file=cast("TextIO", _Styled(stream)), stderr=False, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            console=self._screen,
            transient=True,
        )
        self._pipeline: TaskID | None = None
        self._work: TaskID | None = None
        self._label = ""

    def _print(self, text: str) -> None:
        # markup=False: a "[train]" in the text is text, not a colour.
        self._progress.console.print(shown(text), markup=False)

    def step_started(self, planned: PlannedStep, index: int, total: int) -> None:
        """Move the pipeline's bar to this step."""
        self._label = f"[{index}/{total}] "
        if self._pipeline is None:
            self._pipeline = self._progress.add_task("pipeline", total=total, facts="")
            self._progress.start()
        step = planned.step
        self._progress.update(self._pipeline, completed=index - 1, facts=one_line(f"{step.id} ({step.uses})"))
        self._print(f"{self._label}{step.id} · {step.uses}: {getattr(planned.handler, 'title', '')}")

    def event(self, event: Event | Mapping[str, object]) -> None:
        """Progress moves the second bar; anything else is a line that stays."""
        event = typed(event)
        if event.bar is not None:
            self._advance(event, event.bar.label)
        elif (line := describe(event)) is not None:
            self._print(f"      {line}")

    def _advance(self, event: Event, label: str) -> None:
        done, total = event.progress()
        if isinstance(event, Download):  # the bar counts bytes, the label has them in readable units
            label = f"{label} {size(done)} of {size(total)}"
        facts = _facts_beside_the_bar(event)
        if self._work is None:
            self._work = self._progress.add_task(one_line(label), total=total, facts="")
        self._progress.update(
            self._work,
            description=one_line(label),
            completed=done,
            total=total,
            facts=one_line(" · ".join(facts)),
        )

    def _remove_work_bar(self) -> None:
        if self._work is not None:
            self._progress.remove_task(self._work)
            self._work = None

    def note(self, text: str) -> None:
        """Lines that stay."""
        for line in printable(text).splitlines():
            self._print(f"      {line}")

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, object]) -> None:
        """Remove the step's bar, leave one line."""
        self._remove_work_bar()
        if self._pipeline is not None:
            self._progress.advance(self._pipeline)
        self._print(f"{self._label}{step_id} done in {duration(seconds)}{facts_text(facts)}")

    def step_skipped(self, step_id: str, reason: str) -> None:
        """One line."""
        self._print(f"      {step_id} skipped: {reason}")

    def finished(self, ran: Sequence[str], skipped: Sequence[str], seconds: float) -> None:
        """Remove the bars and sum up."""
        self.close()
        self._print(run_text(ran, skipped, seconds))

    def close(self) -> None:
        """Restore the terminal."""
        self._remove_work_bar()
        self._progress.stop()


def _facts_beside_the_bar(event: Event) -> list[str]:
    """The file, the loss, the pace, the time left, as far as the event has them."""
    facts: list[str] = []
    if isinstance(event, Download):
        facts.append(event.file)
        if event.bytes_per_second is not None:
            facts.append(f"{size(event.bytes_per_second)}/s")
    if isinstance(event, TrainStep) and event.loss is not None:
        facts.append(f"loss {number(event.loss)}")
    if isinstance(event, TrainStep | Generated):
        facts.append(f"{event.tokens_per_second:,.0f} tokens/s")
    if isinstance(event, TrainStep | Download) and event.seconds_left is not None:
        facts.append(f"{duration(event.seconds_left)} left")
    return facts
