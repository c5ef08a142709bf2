"""A session from its push to its end: looked at ever more seldom, its log shown as it comes, every word of the platform understood.

In: an attempt that is pushed. Out: the attempt ``complete``, ``error``, ``cancelled``, ``vanished`` or ``refused`` (saved and never run). What stops the
watching (no connection, credentials that ended, a session that hangs) leaves the attempt as it is, and the same command resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.errors import RemoteRefused
from engine.kaggle.driver.api.answers import Refusal, SessionStatus
from engine.kaggle.driver.api.logs import LogEvent, Seen, follow
from engine.kaggle.driver.api.pacing import POLLS
from engine.kaggle.driver.api.phases import OVER, Phase
from engine.kaggle.driver.api.refusals import explained
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.push import not_run
from engine.kaggle.driver.story import Attempt, State
from engine.protocol.figures import duration
from engine.redact import redact

GONE_AFTER = 3  # answers in a row that there is no such version
UNKNOWN_AFTER = 10
LONGEST_QUEUE_SECONDS = 24 * 3600.0
_ENDS: Mapping[Phase, State] = {"complete": "complete", "error": "error", "cancelled": "cancelled"}
GRACE_SECONDS = 3600.0  # after the time at which the platform itself ends a session


@dataclass
class _Watch:
    """What is counted between two looks."""

    since: float
    looks: int = 0
    gone: int = 0
    unknown: int = 0
    seen: Seen = field(default_factory=Seen)
    is_running: bool = False


def watch(drive: Drive, attempt: Attempt) -> None:
    """Until the session is over. Raises RemoteRefused G205 to G211, G232, G244, G245."""
    state = _begun(drive, attempt)
    while not _look(drive, attempt, state):
        seconds = POLLS.seconds(state.looks, drive.clock.jitter())
        state.looks += 1
        if not (state.is_running and _shown_log(drive, attempt, state, seconds)):
            drive.clock.sleep(seconds)


def look(drive: Drive, attempt: Attempt) -> bool:
    """One look: whether the session is over; what changed is written down."""
    return _look(drive, attempt, _begun(drive, attempt))


def _begun(drive: Drive, attempt: Attempt) -> _Watch:
    since = attempt.event("running") or attempt.event("queued") or {}
    return _Watch(float(since.get("at", drive.clock.now())), is_running=attempt.event("running") is not None)


def _look(drive: Drive, attempt: Attempt, state: _Watch) -> bool:
    """Whether the session is over; what changed is written down."""
    try:
        status = drive.kaggle.status(attempt.name, attempt.version)
    except Refusal as refusal:
        if not _may_be_gone(drive, attempt, refusal):
            raise explained(refusal, attempt.label, drive.kaggle.login) from refusal
        state.gone += 1
        if state.gone == GONE_AFTER:
            drive.story.append("vanished")
        return state.gone == GONE_AFTER
    state.gone = 0
    if status.phase in OVER:
        _over(drive, attempt, status)
        return True
    if status.phase == "not_run":
        not_run(drive, attempt.version)
    _unknown(attempt, status, state)
    _changed(drive, attempt, status, state)
    _superseded(drive, attempt)
    _patience(drive, attempt, state)
    return False


def is_gone(drive: Drive, attempt: Attempt) -> bool:
    """Of a session that is over: as many looks in a row as for one that is watched."""
    for number in range(GONE_AFTER):
        try:
            drive.kaggle.status(attempt.name, attempt.version)
        except Refusal as refusal:
            if not _may_be_gone(drive, attempt, refusal):
                return False
        else:
            return False
        if number < GONE_AFTER - 1:
            drive.clock.sleep(POLLS.seconds(number, drive.clock.jitter()))
    return True


def _may_be_gone(drive: Drive, attempt: Attempt, refusal: Refusal) -> bool:
    """404 for a version; 403 for a notebook that is not, or no longer, this user's: of an own one the list of notebooks decides."""
    if refusal.kind != "forbidden" or attempt.name.owner != drive.kaggle.user:
        return refusal.kind == "missing"
    try:
        return all(row.get("ref") != str(attempt.name) for row in drive.kaggle.recent_notebooks())
    except Refusal:
        return False


def _over(drive: Drive, attempt: Attempt, status: SessionStatus) -> None:
    drive.story.append(_ENDS[status.phase], word=status.word, failure_message=status.message)
    told = f": {status.message}" if status.message else ""
    drive.note(f"version {attempt.version} is over ({status.word}){told}")


def _unknown(attempt: Attempt, status: SessionStatus, state: _Watch) -> None:
    state.unknown = state.unknown + 1 if status.phase == "unknown" else 0
    if state.unknown >= UNKNOWN_AFTER:
        raise RemoteRefused(
            "G244",
            f'Kaggle says "{status.word}" of {attempt.label}, {UNKNOWN_AFTER} times in a row: this engine does not know the word',
            hint="look at its page; the same command looks again. Please report the word",
        )


def _changed(drive: Drive, attempt: Attempt, status: SessionStatus, state: _Watch) -> None:
    """``queued`` and ``running`` are written once each; after ``superseded`` they say nothing new."""
    last = drive.story.last
    was = last.state if last else "pushed"
    if status.phase == "running" and not state.is_running:
        state.is_running, state.since, state.looks = True, drive.clock.now(), 0
    if status.phase in ("queued", "running") and was not in (status.phase, "superseded"):
        drive.story.append(status.phase, word=status.word, at=drive.clock.now())
        drive.note(f"version {attempt.version}: {status.word}")


def _superseded(drive: Drive, attempt: Attempt) -> None:
    """Somebody pushed a newer version: told once. Ours is watched on by its number, and nothing of the other is read."""
    try:
        newest = drive.kaggle.newest_version(attempt.name)
    except Refusal as refusal:
        drive.note(f"whether a newer version was pushed cannot be told now ({refusal})")
        return
    last = drive.story.last
    told = last.facts.get("superseded_by", 0) if last else 0
    if newest > max(attempt.version, int(told)):
        drive.story.append("superseded", superseded_by=newest)
        drive.note(f"version {newest} was pushed meanwhile by somebody; this run stays version {attempt.version}")


def _patience(drive: Drive, attempt: Attempt, state: _Watch) -> None:
    waited = drive.clock.now() - state.since
    most = float(attempt.facts["session_seconds"]) + GRACE_SECONDS if state.is_running else LONGEST_QUEUE_SECONDS
    if waited > most:
        what = "running" if state.is_running else "waiting in the queue"
        raise RemoteRefused("G245", f"{attempt.label} is still {what} after {duration(waited)}",
                            hint="look at its page and stop it there if it hangs; the same command looks again")  # fmt: skip


def _shown_log(drive: Drive, attempt: Attempt, state: _Watch, seconds: float) -> bool:
    """Show the log for about so many seconds; False where the stream gives nothing, so that the time must be waited."""
    begun = drive.clock.monotonic()
    try:
        for event in follow(drive.kaggle, attempt.name, attempt.version, state.seen, seconds):
            show(drive, event)
    except Refusal:  # it is cut every few minutes; the status says whether anything is wrong
        return drive.clock.monotonic() - begun >= seconds / 2
    return drive.clock.monotonic() - begun >= seconds / 2


def show(drive: Drive, event: LogEvent) -> None:
    """One event as lines of ours."""
    for line in event.data.rstrip("\n").splitlines():
        if line.strip():
            drive.note(f"| {redact(line)}")
