"""The base of all events, and those that any job may send.

Every event is a frozen dataclass; beside its fields is the line that a person reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from engine.protocol.codec import to_json
from engine.protocol.figures import number


class Bar(NamedTuple):
    """The progress bar of a frequent event: the bar's label, and the fields with done and total."""

    label: str
    done: str
    total: str


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events. ``name`` is the value of ``event`` in JSON."""

    name: ClassVar[str] = ""
    bar: ClassVar[Bar | None] = None

    def describe(self) -> str | None:
        """The line that a person reads; None where the runner prints its own."""
        return self._line()

    def progress(self) -> tuple[int, int]:
        """(done, total) of an event that moves a bar."""
        assert self.bar is not None
        return getattr(self, self.bar.done), getattr(self, self.bar.total)

    def as_json(self) -> dict[str, Any]:
        """``{"event": name, …}`` with every field."""
        values: dict[str, Any] = to_json(self)
        return {"event": self.name, **values}

    def _line(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A sentence for the person."""

    name: ClassVar[str] = "note"
    text: str

    def _line(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The job is done. ``report`` is its result; for ``train`` and ``generate`` the facts of the artifact."""

    name: ClassVar[str] = "finished"
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The job failed with these diagnostics, and the trainer exits with this code."""

    name: ClassVar[str] = "error"
    exit_code: int
    diagnostics: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class OtherEvent(Event):
    """An event of a step from another package: printed with its name and fields."""

    kind: str
    facts: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The mapping as it arrived."""
        return {"event": self.kind, **self.facts}

    def _line(self) -> str | None:
        facts = (f"{key} {number(value)}" for key, value in self.facts.items())
        return joined(self.kind, *facts) or None


def joined(*parts: str | None) -> str:
    """The parts that are not empty, with dots between them.

    >>> joined("train step 1/3", None, "loss 2.5000")
    'train step 1/3 · loss 2.5000'
    """
    return " · ".join(part for part in parts if part)
