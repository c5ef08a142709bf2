"""The time of a session over several cells: each ``runspec run`` is given what is left of it, and the carry-over between sessions.

In: the limit as a person writes it, the output folder, the mounted output of the session before. Out: the options of ``runspec run``.
On Kaggle the time counts from the start of the kernel, elsewhere from the configuration cell.

    limits = SessionLimits("8h30m", began, output / "session", None)
    limits.options(now)     # ["--session-limit", "30480s", "--session-out", "/kaggle/working/session"]
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import JsonObject
from engine.errors import InputInvalid
from engine.protocol.deadline import seconds_of, steady_seconds

FILE, RECIPE = "session.json", "next_session.json"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """``began`` by :func:`steady_seconds`; ``out``: the folder for the next session; ``earlier``: that of the session before."""

    limit: str | None
    began: float
    out: Path
    earlier: Path | None

    @property
    def seconds(self) -> float | None:
        """The limit. Raises InputInvalid G175 for a text that is no length of time."""
        try:
            return seconds_of(self.limit) if self.limit else None
        except ValueError as error:
            raise InputInvalid(
                "G175", f"SESSION_LIMIT: {error}", hint='SESSION_LIMIT = "8h30m", or None for no limit'
            ) from error

    def options(self, now: float) -> list[str]:
        """Of one ``runspec run``. What is left may be too little for anything: the engine says so."""
        limit = self.seconds
        left = (
            []
            if limit is None
            else ["--session-limit", f"{max(1, int(limit - (now - self.began)))}s", "--session-out", str(self.out)]
        )
        return left + (["--continue-from", str(self.earlier)] if self.earlier else [])

    def clear(self) -> None:
        """When the run is complete, nothing is left for another session."""
        shutil.rmtree(self.out, ignore_errors=True)

    def standing(self) -> bytes | None:
        """What a run has written for the next session; each one that ends writes it anew."""
        try:
            return (self.out / FILE).read_bytes()
        except OSError:
            return None

    def recipe(self, before: bytes | None) -> JsonObject | None:
        """What is left, as the run that stopped has written it; None where it wrote nothing: ``before`` is what stood there."""
        if self.standing() in (None, before):
            return None
        try:
            return dict(json.loads((self.out / RECIPE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def is_used_up(self, now: float) -> bool:
        """Whether more than half of the limit has passed: a step for which the rest is too short then belongs to the next session."""
        limit = self.seconds
        return limit is not None and now - self.began > limit / 2


def session_began(*, is_kaggle: bool) -> float:
    """On Kaggle when this kernel started, where the system says so; elsewhere now."""
    now = steady_seconds()
    if not is_kaggle:
        return now
    try:
        ticks = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        began = int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return now
    return began if 0.0 <= began <= now else now
