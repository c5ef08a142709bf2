"""The options of a session, and whether its limit is reached.

In: the run-spec's ``session`` section and the command line. Out: :class:`SessionOptions`, checked before anything runs; during the run
:class:`Limits`, which a step asks whether it has to stop.

    options = session_options(spec, limit="8h30m", margin=None, out=None, continue_from=None)
    limits = Limits(options.deadline(started), stop)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputInvalid
from engine.protocol.deadline import Deadline, default_margin, in_words, seconds_of, steady_seconds
from engine.runspec.model import Spec


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """``began``: by steady_seconds; the limit counts from there. ``out``, ``continue_from``: folders of a carry-over."""

    began: float = 0.0
    limit_seconds: float | None = None
    margin_seconds: float = 0.0
    out: Path | None = None
    continue_from: Path | None = None

    @property
    def deadline(self) -> Deadline | None:
        """When the session has to end; None without a limit."""
        if self.limit_seconds is None:
            return None
        return Deadline(
            self.began + self.limit_seconds, self.limit_seconds, self.margin_seconds, carries=self.out is not None
        )

    @property
    def is_one_of_many(self) -> bool:
        """Whether anything says that the run may be resumed elsewhere, or later."""
        return self.limit_seconds is not None or self.out is not None or self.continue_from is not None


NO_SESSION = SessionOptions()


def session_options(
    spec: Spec, began: float, limit: str | None, out: str | None, continue_from: str | None
) -> SessionOptions:
    """Raises InputInvalid U163 for a limit that is none, a margin that is not shorter."""
    text = limit if limit is not None else spec.session.limit
    seconds = _seconds(text) if text is not None else None
    margin = 0.0
    if seconds is not None:
        margin = seconds_of(spec.session.margin) if spec.session.margin else default_margin(seconds)
        if margin >= seconds:
            raise InputInvalid(
                "U163",
                f"the session limit {in_words(seconds)} is not longer than its margin {in_words(margin)}",
                hint="give a longer --session-limit, or a shorter session.margin in the run-spec",
            )
    folders = [Path(folder).absolute() if folder is not None else None for folder in (out, continue_from)]
    return SessionOptions(began, seconds, margin, *folders)


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise InputInvalid("U163", f"--session-limit: {error}", hint="--session-limit 8h30m") from error


@dataclass(frozen=True, slots=True)
class Limits:
    """Asked by steps: true after a stop request, and when the limit is reached."""

    deadline: Deadline | None
    asked: Callable[[], bool]
    clock: Callable[[], float] = steady_seconds

    def __call__(self) -> bool:
        """The ``stopping`` of a step."""
        return self.asked() or self.is_over()

    def is_over(self) -> bool:
        """Whether the limit is reached, but for the margin."""
        return self.deadline is not None and self.clock() >= self.deadline.stop_at
