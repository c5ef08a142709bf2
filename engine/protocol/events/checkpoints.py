"""Events of checkpoints: saved, restored, refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.protocol.events.base import Event


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """A checkpoint is published. The loop waited ``stalled_seconds`` of the ``seconds`` that saving took."""

    name: ClassVar[str] = "checkpoint"
    train_step: int
    seconds: float
    stalled_seconds: float

    def _line(self) -> str:
        return f"checkpoint at train step {self.train_step}"


@dataclass(frozen=True, slots=True)
class Restored(Event):
    """The training run resumes from a checkpoint."""

    name: ClassVar[str] = "restored"
    train_step: int

    def _line(self) -> str:
        return f"resumed from the checkpoint of train step {self.train_step}"


@dataclass(frozen=True, slots=True)
class Resharded(Event):
    """The training run resumes on other devices than the checkpoint was saved on."""

    name: ClassVar[str] = "resharded"
    train_step: int
    was: str
    now: str
    micro_batches: int

    def _line(self) -> str:
        return (
            f"resumed on {self.now} what was saved on {self.was}: the same batches, in {self.micro_batches} micro-batches; "
            "no longer bit for bit the uninterrupted training run"
        )


@dataclass(frozen=True, slots=True)
class CheckpointUnusable(Event):
    """A checkpoint is damaged; the one before it is tried."""

    name: ClassVar[str] = "fallback"
    train_step: int
    reason: str

    def _line(self) -> str:
        return f"the checkpoint of train step {self.train_step} is unusable: {self.reason}"


@dataclass(frozen=True, slots=True)
class ReadyForKill(Event):
    """The checkpoint that the smoke run waits for is safe; the trainer waits for its SIGKILL."""

    name: ClassVar[str] = "ready_for_kill"
    train_step: int

    def _line(self) -> str:
        return f"checkpoint {self.train_step} is safe; killing the trainer on purpose"
