"""Decides when a training run saves for the last time before its session's limit, from what its own steps and saves took.

In: the job's :class:`~engine.protocol.deadline.Deadline` (or none), measured seconds as they come. Out: whether the train step that was just
sent to the device is the session's last; how many train steps lie between two checkpoints where nobody declared it. What earlier runs of
the same program on the same devices took is remembered in the cache, so that a limit that is too short is known before the first step.

    guard = SessionGuard(deadline, state_bytes=…, known=recall(file))
    guard.stepped(seconds); guard.saved(seconds)
    guard.is_last(evaluates=False)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import pretty_json, sealed, unsealed, write_atomic
from engine.protocol.codec import FieldError, from_json, to_json
from engine.protocol.deadline import ASSUMED_BYTES_PER_SECOND, Deadline, in_words, steady_seconds

SEAL = "pace_sha256"
RECENT = 20  # train steps and evals whose slowest is expected of the next one
SAVE_SHARE = 50  # measured cadence: at least so many times a save's seconds between two saves …
MOST_LOST_SHARE = 10  # … and at most this part of the limit, which is what a kill would lose


@dataclass(frozen=True, slots=True)
class Pace:
    """The quickest train step and save that were measured of a program; None: not measured."""

    step_seconds: float | None = None
    save_seconds: float | None = None


class SessionGuard:
    """Of one process. ``state_bytes``: those of a checkpoint."""

    def __init__(
        self,
        deadline: Deadline | None,
        *,
        state_bytes: int,
        known: Pace | None = None,
        clock: Callable[[], float] = steady_seconds,
    ) -> None:
        self.deadline, self.known, self._clock = deadline, known or Pace(), clock
        self._began, self._state_bytes = clock(), state_bytes
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._evals: deque[float] = deque(maxlen=RECENT)
        self._saves: deque[float] = deque(maxlen=3)

    def stepped(self, seconds: float) -> None:
        """A train step took so long."""
        self._steps.append(seconds)

    def evaluated(self, seconds: float) -> None:
        """An eval took so long."""
        self._evals.append(seconds)

    def saved(self, seconds: float) -> None:
        """A checkpoint was published so long after it was begun."""
        self._saves.append(seconds)

    @property
    def save_seconds(self) -> float:
        """What a save is expected to take: the slowest of late, or by its bytes on a slow disk until one is measured."""
        return max(self._saves) if self._saves else self._state_bytes / ASSUMED_BYTES_PER_SECOND

    @property
    def pace(self) -> Pace:
        """To be remembered."""
        return Pace(
            min(filter(None, (self.known.step_seconds, *self._steps)), default=None),
            min(filter(None, (self.known.save_seconds, *self._saves)), default=None),
        )

    @property
    def is_unsure(self) -> bool:
        """Before the first train step was measured: the loop waits for it, and asks then."""
        return self.deadline is not None and not self._steps

    def is_last(self, *, evaluates: bool, is_saving: bool = False) -> bool:
        """Whether no train step may follow the one that was just sent to the device.

        That one, the next one with its eval, the save that is running and the last one must all end in time.
        """
        step, evaluation = max(self._steps, default=0.0), max(self._evals, default=0.0)
        more = evaluation if evaluates else 0.0
        return not self._fits(2 * step + more + (self.save_seconds if is_saving else 0.0))

    def may_begin(self) -> bool:
        """Before the first train step: False where it is known not to fit, from what was measured earlier."""
        step, save = self.known.step_seconds or 0.0, self.known.save_seconds or 0.0
        return self.deadline is None or self.deadline.fits(self._clock(), step, save, self._carry())

    def may_save_first(self) -> bool:
        """After the first train step of a session: False where its save would surely end after the limit."""
        known = min(self._saves, default=self.known.save_seconds or 0.0)
        return self.deadline is None or self._clock() + known <= self.deadline.ends_at

    def may_export(self, model_bytes: int) -> bool:
        """After the last train step: whether the model can be written in time."""
        return self.deadline is None or self.deadline.fits(self._clock(), model_bytes / ASSUMED_BYTES_PER_SECOND)

    def needs(self) -> str:
        """What a session needs at least, as far as it was measured."""
        pace, started = self.pace, self._clock() - self._began
        parts = [f"{in_words(started)} until here"]
        parts += [f"a train step of {in_words(pace.step_seconds)}"] if pace.step_seconds else []
        parts += [f"a save of {in_words(pace.save_seconds)}"] if pace.save_seconds else []
        return " + ".join(parts)

    def save_every(self, declared: int) -> int:
        """Train steps between two checkpoints: the declared number, or one that follows from measured seconds."""
        deadline = self.deadline
        if deadline is None or deadline.cadence == "declared" or not (self._saves and self._steps):
            return declared
        between = min(SAVE_SHARE * self.save_seconds, deadline.limit_seconds / MOST_LOST_SHARE)
        return max(1, round(max(between, self.save_seconds) / (sum(self._steps) / len(self._steps))))

    @property
    def step_seconds(self) -> float:
        """The mean of late."""
        return sum(self._steps) / len(self._steps) if self._steps else 0.0

    def _fits(self, seconds: float) -> bool:
        return self.deadline is None or self.deadline.fits(self._clock(), seconds, self.save_seconds, self._carry())

    def _carry(self) -> float:
        return self.deadline.carry_seconds(self._state_bytes) if self.deadline else 0.0


def recall(file: Path) -> Pace:
    """What was remembered; nothing where there is no such file, or it is not what was written."""
    try:
        values = unsealed(file.read_bytes(), SEAL)
        return from_json(Pace, values) if values is not None else Pace()
    except (OSError, FieldError):
        return Pace()


def remember(file: Path, pace: Pace) -> None:
    """For later runs of the same program. Raises OSError."""
    if pace != Pace():
        write_atomic(file, pretty_json(sealed(to_json(pace), SEAL)))
