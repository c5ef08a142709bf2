"""What a session says of itself, held beside what was pushed: its outcome, its nonce, the digests that it wrote down.

In: an attempt that is fetched. Out: the attempt ``checked`` with its outcome, or ``failed``. ``outcome.json``: {schema_version: 1, exit_code,
state: complete | incomplete | failed, run_version, engine_sha256, notebook_sha256_of_cells, next}. Files of another push, or changed ones,
are exit code 5, never evidence.

    >>> reason_of("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2147483648 bytes.")
    'oom'
    >>> last_error("x\\nerror[M401]: the model needs a token\\nmore")
    'M401: the model needs a token'
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.artifacts.refusals import explained_reading
from engine.canonical import JsonMapping, JsonObject, digest_file
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.logs import events
from engine.kaggle.driver.story import Attempt
from engine.printable import one_line
from engine.redact import redact

OUTCOME, WITNESS, EVIDENCE = "outcome.json", "witness.json", "evidence"
FETCHED_AGAIN = frozenset({"G252", "G253", "G256", "G262", "G263"})  # ends that another download may mend
LARGEST_DOCUMENT = 1 << 20
NONCE_LINE = re.compile(r"runspec nonce: ([0-9a-f]{32,128})")
ERROR_LINE = re.compile(r"error\[([A-Z]\d{2,3})\]: (.+)")
# Class of a failure -> what its log has; the first that matches counts.
REASONS: Mapping[str, re.Pattern[str]] = {
    "oom": re.compile(r"RESOURCE_EXHAUSTED|out of memory|\bOOM\b|Killed\b.*memory", re.IGNORECASE),
    "secret": re.compile(r"No user secrets exist|error\[(M401|G15\d)\].*(secret|token)", re.IGNORECASE),
    "device": re.compile(
        r"error\[G1[5-9]\d\].*device|No (TPU|GPU|accelerator)|Unable to initialize backend", re.IGNORECASE
    ),
    "data-missing": re.compile(
        r"error\[(D1\d\d|Y001|G1[5-9]\d)\].*(not there|missing|no file|not attached)|FileNotFoundError", re.IGNORECASE
    ),
    "disk": re.compile(r"No space left on device|error\[R101\]", re.IGNORECASE),
    "timeout": re.compile(r"timed? ?out|Timeout", re.IGNORECASE),
}
HINTS: Mapping[str, str] = {
    "oom": "a smaller per_device_batch_size or seq_len: `runspec plan SPEC --target T` says what fits",
    "secret": "name the model as model: {kaggle: …}, which needs no secret; a push detaches secrets that were attached",
    "device": "the session had other devices than were asked for; type the command again with --again",
    "data-missing": "attach what is missing as a dataset: --upload-data",
    "disk": "keep fewer checkpoints (keep_checkpoints), or a smaller model",
    "timeout": "a shorter --session-limit: the run then stops by itself, and the next session resumes",
}


def check(drive: Drive, attempt: Attempt) -> None:
    """Written down as ``checked`` or ``failed``. Raises RunFailed R112 where a file cannot be read."""
    folder = drive.story.output(attempt.version)
    fetched = attempt.event("fetched") or {}
    with explained_reading(folder):
        changed = [name for name, digest in fetched["files"].items() if _digest(folder / name) != digest]
        log = "".join(
            event.data for event in events((folder / fetched["log"]).read_text(encoding="utf-8", errors="replace"))
        )
        outcome, witness = (_document(folder / name) for name in (OUTCOME, WITNESS))
    if changed:
        fail(drive, 5, "G252", f"changed since they were fetched: {', '.join(changed[:3])}",
             _fetch_again(drive))  # fmt: skip
    elif outcome is None or not _is_outcome(outcome):
        _without_outcome(drive, attempt, log, is_there=outcome is not None)
    else:
        _judged(drive, attempt, outcome, witness or {}, log)


def _judged(drive: Drive, attempt: Attempt, outcome: JsonObject, witness: JsonObject, log: str) -> None:
    problem = _of_another_push(drive, attempt, outcome, witness, log)
    changed = _other_digests(attempt, witness)
    if problem is not None:
        fail(drive, 5, "G256", f"the output of {attempt.label} is not of this push: {problem}",
             _fetch_again(drive))  # fmt: skip
    elif changed:
        fail(drive, 5, "G252", f"{attempt.label}: other bytes than the session wrote: {', '.join(changed[:3])}",
             _fetch_again(drive))  # fmt: skip
    else:
        notes = _edited(attempt, outcome)
        for note in notes:
            drive.note(note)
        log_error = last_error(log)
        drive.story.append("checked", outcome=_kept(outcome), notes=notes, **progress_of(witness, drive, attempt),
                           reason=reason_of(log), last_error=log_error)  # fmt: skip


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
        cause = last_error(log) or told or _last_line(log)
        fail(drive, 1, "G240", f"{attempt.label} failed ({word}, {reason}): {cause or 'its log says nothing'}",
             HINTS.get(reason, "its whole log: runspec kaggle logs " + drive.spec.run_version), reason)  # fmt: skip
    else:
        fail(drive, 8, "G253", f"the output of {attempt.label} is not there, though the session is complete",
             _fetch_again(drive))  # fmt: skip


def _fetch_again(drive: Drive) -> str:
    return f"nothing of it was used; fetch it once more: runspec kaggle fetch {drive.spec.run_version}\nor push again: add --again"


def _of_another_push(
    drive: Drive, attempt: Attempt, outcome: JsonMapping, witness: JsonMapping, log: str
) -> str | None:
    nonce, logged = attempt.facts["nonce"], set(NONCE_LINE.findall(log))
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


def progress_of(witness: JsonMapping, drive: Drive, attempt: Attempt) -> JsonObject:
    """The last train step that the sessions have reached, and the seconds of the last session."""
    sessions: Sequence[object] = witness.get("sessions") or []
    if not sessions:
        chain = _document(drive.story.output(attempt.version) / "session" / "session.json") or {}
        sessions = chain.get("sessions") or [chain]
    rows = [row for row in sessions if isinstance(row, dict)]
    steps = [step for row in rows if isinstance(step := row.get("last_train_step"), int)]
    last = rows[-1] if rows else {}
    return {
        "progress": max(steps, default=0),
        "train_seconds": _seconds_between(last.get("started_at"), last.get("finished_at")),
    }


def _seconds_between(start: object, end: object) -> float | None:
    try:
        return (dt.datetime.fromisoformat(str(end)) - dt.datetime.fromisoformat(str(start))).total_seconds()
    except (ValueError, TypeError):
        return None


def reason_of(log: str) -> str:
    """The class of a failure; ``code`` where nothing in the log says more."""
    return next((name for name, pattern in REASONS.items() if pattern.search(log)), "code")


def last_error(log: str) -> str | None:
    """The last error of the engine in a log."""
    found = ERROR_LINE.findall(log)
    return f"{found[-1][0]}: {one_line(redact(found[-1][1]))[:300]}" if found else None


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return one_line(redact(lines[-1]))[:300] if lines else ""


def fail(drive: Drive, exit_code: int, code: str, message: str, hint: str, reason: str = "") -> None:
    """The attempt's end, written down; whoever asks again gets the same words."""
    drive.story.append("failed", exit_code=exit_code, code=code, message=message, hint=hint, reason=reason)


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
