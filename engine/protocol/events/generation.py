"""Events of generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.protocol.deadline import StopReason
from engine.protocol.events.base import Bar, Event


@dataclass(frozen=True, slots=True)
class GenerationStarted(Event):
    """The model is loaded; answers are generated next. ``n_done`` of ``n_items`` are done by an earlier attempt."""

    name: ClassVar[str] = "generation_started"
    devices: tuple[str, ...]
    platform: str
    jax: str
    n_items: int
    n_done: int

    def _line(self) -> str:
        devices = f", {len(self.devices)} devices" if len(self.devices) > 1 else ""
        return f"on {self.platform}{devices}" + (f", {self.n_done} answers are done already" if self.n_done else "")


@dataclass(frozen=True, slots=True)
class Generated(Event):
    """Answers are done and on disk."""

    name: ClassVar[str] = "generated"
    bar: ClassVar[Bar | None] = Bar("generated", "done", "total")
    done: int
    total: int
    tokens_per_second: float

    def _line(self) -> str:
        return f"generated {self.done}/{self.total} · {self.tokens_per_second:,.0f} tokens/s"


@dataclass(frozen=True, slots=True)
class GenerationStopped(Event):
    """A stop request, or the session limit, ended the generation; the answers so far are kept. ``here``: those of this process."""

    name: ClassVar[str] = "generation_stopped"
    done: int
    total: int
    reason: StopReason = "request"
    here: int | None = None

    def _line(self) -> str:
        why = " for the session limit" if self.reason == "deadline" else ""
        return f"stopped after {self.done} of {self.total} answers{why}; they are kept"
