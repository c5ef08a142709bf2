"""What a session says of itself, held beside what was pushed: its outcome, its nonce, the digests that it wrote down.

In: an attempt that is fetched. Out: the attempt ``checked`` with its outcome, or ``failed``. ``outcome.json``: {schema_version: 1, exit_code,
state: complete | incomplete | failed, run_version, engine_sha256, notebook_sha256_of_cells, next}. Files of another push, or changed ones,
are exit code 5, never evidence.

    >>> progress_of({"sessions": [{"last_train_step": 3}], "steps": [], "begun": None})["progress"]
    3
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.refusals import explained_reading
from engine.canonical import JsonMapping, JsonObject, digest_file, digest_json, unsealed
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.outputs import CHAIN, LOG
from engine.kaggle.driver.reasons import HINTS, last_error, last_line, reason_of
from engine.kaggle.driver.story import Attempt
from engine.printable import one_line

OUTCOME, WITNESS, EVIDENCE = "outcome.json", "witness.json", "evidence"
FETCHED_AGAIN = frozenset({"G252", "G253", "G256", "G262", "G263", "G264"})  # ends that another download may mend
LARGEST_DOCUMENT = 1 << 20
NONCE_LINE = re.compile(r"runspec nonce: ([0-9a-f]{32,128})")


@dataclass(frozen=True, slots=True)
class Found:
    """The log and the documents of an output; None for one that is not there, {} for one that is something else."""

    log: str
    outcome: JsonObject | None
    witness: JsonObject | None
    carried: JsonObject | None


def check(drive: Drive, attempt: Attempt) -> None:
    """Written down as ``checked`` or ``failed``. Raises RunFailed R112 where a file cannot be read."""
    folder, fetched = drive.story.output(attempt.version), attempt.event("fetched") or {}
    with explained_reading(folder):
        changed = [name for name, digest in fetched["files"].items() if _digest(folder / name) != digest]
        log = (drive.story.fetched(attempt.version) / LOG).read_text(encoding="utf-8", errors="replace")
        found = Found(log, _document(folder / OUTCOME), _document(folder / WITNESS), _carried(folder / CHAIN))
    if changed:
        fail(drive, 5, "G252", f"changed since they were fetched: {', '.join(changed[:3])}", _fetch_again(drive))
    elif found.outcome is None or not _is_outcome(found.outcome):
        _without_outcome(drive, attempt, log, is_there=found.outcome is not None)
    else:
        _judged(drive, attempt, found)


def _judged(drive: Drive, attempt: Attempt, found: Found) -> None:
    assert found.outcome is not None
    problem, changed = _of_another_push(drive, attempt, found), _other_digests(attempt, found.witness or {})
    hole = _hole(drive, attempt, found.carried) if found.outcome["state"] == "incomplete" else None
    if problem is not None:
        fail(drive, 5, "G256", f"the output of {attempt.label} is not of this push: {problem}", _fetch_again(drive))
    elif changed:
        fail(drive, 5, "G252", f"{attempt.label}: other bytes than the session wrote: {', '.join(changed[:3])}",
             _fetch_again(drive))  # fmt: skip
    elif hole is not None:
        fail(drive, 5, "G264", f"the sessions are no chain: {hole}", _fetch_again(drive))
    else:
        notes = _edited(attempt, found.outcome)
        for note in notes:
            drive.note(note)
        drive.story.append("checked", outcome=_kept(found.outcome), notes=notes, reason=reason_of(found.log),
                           last_error=last_error(found.log), **progress_of(found.carried))  # fmt: skip


def _kept(outcome: JsonObject) -> JsonObject:
    return {key: outcome.get(key) for key in ("state", "exit_code", "engine_sha256", "next")}


def _is_outcome(outcome: JsonMapping) -> bool:
    return (
        outcome.get("schema_version") == 1
        and outcome.get("state") in ("complete", "incomplete", "failed")
        and isinstance(outcome.get("exit_code"), int)
    )


def _without_outcome(drive: Drive, attempt: Attempt, log: str, *, is_there: bool) -> None:
    """The session ended before the notebook could say how, or its output is gone."""
    ended = attempt.event("complete") or attempt.event("error") or attempt.event("cancelled") or {}
    word, told = ended.get("word", ""), ended.get("failure_message") or ""
    if is_there:
        fail(drive, 8, "G262", f"{OUTCOME} of {attempt.label} is not what a notebook of this engine writes",
             f"was the notebook edited on its page? {_fetch_again(drive)}")  # fmt: skip
    elif attempt.event("cancelled"):
        fail(drive, 1, "G241", f"{attempt.label} was cancelled, and left no outcome",
             "a session that the platform cuts leaves nothing: a shorter --session-limit; then add --again", "timeout")  # fmt: skip
    elif attempt.event("error"):
        reason = reason_of(f"{log}\n{told}")
        cause = last_error(log) or told or last_line(log)
        fail(drive, 1, "G240", f"{attempt.label} failed ({word}, {reason}): {cause or 'its log says nothing'}",
             HINTS.get(reason, "its whole log: runspec kaggle logs " + drive.spec.run_version), reason)  # fmt: skip
    else:
        fail(drive, 8, "G253", f"the output of {attempt.label} is not there, though the session is complete",
             _fetch_again(drive))  # fmt: skip


def _fetch_again(drive: Drive) -> str:
    fetch = f"runspec kaggle fetch {drive.spec.run_version}"
    return f"nothing of it was used; fetch it once more: {fetch}\nor push again: add --again"


def _of_another_push(drive: Drive, attempt: Attempt, found: Found) -> str | None:
    outcome, witness = found.outcome or {}, found.witness or {}
    nonce, logged = attempt.facts["nonce"], set(NONCE_LINE.findall(found.log))
    if outcome.get("run_version") != drive.spec.run_version:
        return f"it is of the run {one_line(str(outcome.get('run_version')))[:60]}"
    said = {str(document["nonce"]) for document in (outcome, witness) if document.get("nonce")}
    if said - {nonce} or (logged and nonce not in logged):
        return "it has another nonce"
    if not said and not logged:
        return "neither its log nor its files have the nonce"
    return None


def _other_digests(attempt: Attempt, witness: JsonMapping) -> list[str]:
    """Evidence files that are not those of which the session wrote the digests."""
    files = (attempt.event("fetched") or {}).get("files", {})
    digests = witness.get("digests")
    if not isinstance(digests, Mapping):
        return []
    return [name for name, digest in sorted(digests.items()) if files.get(f"{EVIDENCE}/{name}", digest) != digest]


def _edited(attempt: Attempt, outcome: JsonMapping) -> list[str]:
    """What differs from what was pushed without making the evidence false: recorded, and said."""
    notes = []
    for key, what in (
        ("engine_sha256", "the engine in the notebook"),
        ("notebook_sha256_of_cells", "the notebook's cells"),
    ):
        pushed, ran = attempt.facts.get(key), outcome.get(key)
        if pushed and ran and pushed != ran:
            notes.append(f"{what} is not what was pushed: somebody has edited it (sha256 {str(ran)[:12]}…)")
    return notes


def _hole(drive: Drive, attempt: Attempt, carried: JsonObject | None) -> str | None:
    """Why the carry-over of an unfinished session is not the next link; None where it is."""
    if carried is None:
        return f"{attempt.label} left no {CHAIN}"
    if not carried:
        return f"{CHAIN} of {attempt.label} is not what was written"
    earlier = next(
        (one for one in drive.story.attempts if one.version == attempt.facts["earlier"] and one.state == "continue"),
        None,
    )
    parent = earlier.facts.get("session_sha256") if earlier else None
    if carried.get("parent_sha256") != parent:
        return f"{attempt.label} did not resume from what version {attempt.facts['earlier']} left"
    return None


def progress_of(carried: JsonMapping | None) -> JsonObject:
    """What the next session is told of this one: the train step that was reached, and whether anything was."""
    carried = carried or {}
    rows = [row for row in carried.get("sessions") or () if isinstance(row, dict)]
    steps = [step for row in rows if isinstance(step := row.get("last_train_step"), int)]
    last = rows[-1] if rows else {}
    return {
        "session_sha256": digest_json(carried) if carried else None,
        "standing_sha256": digest_json({key: carried.get(key) for key in ("steps", "begun", "sessions")}),
        "progress": max(steps, default=0),
        "train_seconds": _seconds_between(last.get("started_at"), last.get("finished_at")),
    }


def _seconds_between(start: object, end: object) -> float | None:
    try:
        return (dt.datetime.fromisoformat(str(end)) - dt.datetime.fromisoformat(str(start))).total_seconds()
    except (ValueError, TypeError):
        return None


def fail(drive: Drive, exit_code: int, code: str, message: str, hint: str, reason: str = "") -> None:
    """The attempt's end, written down; whoever asks again gets the same words."""
    drive.story.append("failed", exit_code=exit_code, code=code, message=message, hint=hint, reason=reason)


def _carried(path: Path) -> JsonObject | None:
    """``session.json``; None where there is none, {} where a byte of it is not what was written."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > LARGEST_DOCUMENT:
        return None
    return unsealed(path.read_bytes(), "session_sha256") or {}


def _digest(path: Path) -> str | None:
    return digest_file(path) if path.is_file() and not path.is_symlink() else None


def _document(path: Path) -> JsonObject | None:
    """A JSON object of the output; None where there is no such file, {} where it is something else."""
    if not path.is_file() or path.is_symlink():
        return None
    if path.stat().st_size > LARGEST_DOCUMENT:
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
