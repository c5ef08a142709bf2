"""Who starts the trainer, as the trainer's process sees it. A module of its own, so that a step can name it at no cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.protocol.events.base import Event

# After a stop request the child finishes its train step and saves; past this time it is killed (no artifact is lost).
STOP_GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Host:
    """The starting side of the trainer.

    ``work``      a folder for the job file and standard error
    ``cwd``       the trainer's working folder
    ``emit``      is called with each of its events, as they arrive
    ``stopping``  true after a stop request; ``grace_seconds`` later the trainer is killed
    ``kill_at``   when it is killed in any case, by :func:`engine.protocol.deadline.steady_seconds`: its session ends
    """

    work: Path
    cwd: Path
    emit: Callable[[Event], None] = lambda _: None
    stopping: Callable[[], bool] = lambda: False
    grace_seconds: float = STOP_GRACE_SECONDS
    kill_at: float | None = None
