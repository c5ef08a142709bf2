"""The chain of sessions of one training run: which train steps each did, from which checkpoint, up to which.

In: rows, each with the train steps of a session (the first and the last, both included), ``checkpoint_sha256`` of the checkpoint that it ended with,
``parent_sha256`` of the one that it resumed from, when and on what. Out: why they are no chain, or nothing. A session is an attempt that ended with a checkpoint which the next one resumed from; an attempt
that was killed before its first checkpoint has left nothing and is no session. Every checkpoint carries the sessions before it, so that
the chain travels with the state itself.

    >>> first = {"first_train_step": 1, "last_train_step": 4, "checkpoint_sha256": "a", "parent_sha256": None}
    >>> chain_problems([first, {**first, "first_train_step": 6, "last_train_step": 8, "parent_sha256": "a"}])
    ['session 2 does not begin after train step 4']
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunSession:
    """The attempt of the run that a job belongs to."""

    id: str
    started_at: str


def beginning(session: RunSession | None, train_step: int, parent: str | None, machine: Row) -> dict[str, Any]:
    """What a session that resumes after ``train_step`` notes of itself; ``machine``: platform, device_kind, devices."""
    return {
        **machine,
        "session": session.id if session else None,
        "started_at": session.started_at if session else this_second(),
        "first_train_step": train_step + 1,
        "parent_sha256": parent,
    }


def rows_at(notes: Row, train_step: int, digest: str) -> list[dict[str, Any]]:
    """The chain up to the checkpoint of ``train_step``, from its notes and its digest.

    All train steps of a checkpoint whose engine kept no sessions are one.
    """
    began = notes.get("session")
    if began is None:
        return [_row({"first_train_step": 1, "parent_sha256": None}, train_step, digest)]
    return [*map(dict, notes.get("sessions", ())), _row(began, train_step, digest)]


def _row(began: Row, last: int, digest: str) -> dict[str, Any]:
    return {
        "session": began.get("session"),
        "first_train_step": began["first_train_step"],
        "last_train_step": last,
        "checkpoint_sha256": digest,
        "parent_sha256": began["parent_sha256"],
        "started_at": began.get("started_at", ""),
        "finished_at": began.get("saved_at", ""),
        "platform": began.get("platform", ""),
        "device_kind": began.get("device_kind", ""),
        "devices": began.get("devices", 0),
    }


def chain_problems(sessions: Sequence[Row]) -> list[str]:
    """Where a session did not begin where the one before it ended. Rows without train steps are passed over."""
    problems, step, parent = [], 0, None
    for number, session in enumerate(sessions, start=1):
        if session["first_train_step"] is None:
            continue
        if session["first_train_step"] != step + 1 or session["last_train_step"] < session["first_train_step"]:
            problems.append(f"session {number} does not begin after train step {step}")
        if session["parent_sha256"] != parent:
            problems.append(f"session {number} did not begin with the checkpoint that the one before it left")
        step, parent = session["last_train_step"], session["checkpoint_sha256"]
    return problems


def last_train_step(sessions: Sequence[Row]) -> int:
    """The train step that they reach."""
    return max((row["last_train_step"] for row in sessions if row["first_train_step"] is not None), default=0)


def this_second() -> str:
    """ISO 8601, UTC."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
