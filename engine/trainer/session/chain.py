"""The sessions of a training run, as its checkpoints carry them: each has those before it, and where its own began.

In: the notes of the checkpoint that was restored, and that checkpoint's digest. Out: the notes of the next ones, and at the end the chain for
the report (rows of :mod:`engine.protocol.sessions`).

    sessions = Sessions.after(notes, digest, train_step, session, machine)
    checkpoint notes: {…, "sessions": […], "session": {"session": …, "first_train_step": …, …}}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.protocol.sessions import Row, RunSession, beginning, rows_at, this_second


@dataclass(frozen=True, slots=True)
class Sessions:
    """``before``: rows of the sessions that ended; ``own``: the beginning of this one."""

    before: Sequence[Row]
    own: Row

    @classmethod
    def after(
        cls, notes: Row | None, digest: str | None, train_step: int, session: RunSession | None, machine: Row
    ) -> Sessions:
        """After the checkpoint of ``train_step`` with these notes and this digest; both None at the beginning."""
        before = rows_at(notes, train_step, digest) if notes is not None and digest is not None else []
        return cls(before, beginning(session, train_step, digest, machine))

    def notes(self) -> dict[str, Any]:
        """For a checkpoint that is saved now."""
        return {"sessions": list(self.before), "session": {**self.own, "saved_at": this_second()}}

    def chain(self, train_step: int, digest: str | None) -> list[Row]:
        """The whole chain up to the checkpoint of ``train_step``, which ended it."""
        if train_step < self.own["first_train_step"] or digest is None:
            return list(self.before)
        return list(rows_at(self.notes(), train_step, digest))
