"""The append-only journal of a run, and the run record that is made from it.

The journal is ``.runspec/runs/<run_version>/journal.jsonl``, one JSON object a line: ``line_sha256``, ``seq``, ``time``,
``event`` and the event's own keys. It is append-only; every line has the digest of itself (engine.artifacts.lines), and a last
line that a kill has torn is no event. Events: ``run_started`` (session, command, spec digest, overrides, steps,
environment),
``step_started``, ``step_finished``, ``step_reused``, ``step_failed``, ``run_interrupted``, ``evidence_rendered``,
``verified``.

    >>> RunRecord.__dataclass_fields__["run_version"].type
    'str'
"""

from __future__ import annotations

import datetime as dt
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.artifacts.lines import Lines, line_of, parse_lines
from engine.artifacts.refusals import changed_on_disk, explained_reading, read_state
from engine.artifacts.store import Artifact, explain_os_error
from engine.canonical import JsonMapping, JsonObject, digest_bytes, readable
from engine.errors import RunFailed


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One finished step: its arguments and the artifact that it published."""

    id: str
    uses: str
    args: JsonMapping  # effective
    declared: JsonMapping  # what the person wrote
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A finished run: every evidence file is rendered from it and nothing else.

    ``model_revision`` is the commit that the trainer fetched, ``model_revision_declared`` the branch, tag or commit
    that the run-spec names (both None where the weights do not come from the hub). ``command`` is what was typed,
    ``started_at``/``finished_at`` are ISO 8601 UTC, ``overrides`` map ``id.key`` to the value of the command line. ``environment`` has: engine, python, platform, libraries
    {name: version}, commit_sha (40 hex or None), commit_dirty (bool or None), diff_sha256 (of the uncommitted
    change, or None), kaggle {run_type, notebook_url, notebook_version, run_id} or None. ``sessions``: the attempts that something of
    the result came from, as a chain (engine.pipeline.session.rows); None in the record of an engine that kept none.
    """

    run_version: str
    notes: str
    spec_path: str  # relative to the project, POSIX
    spec_bytes: bytes  # the file as it is, line ends and byte order mark included
    spec_digest: str
    overrides: JsonMapping
    command: str
    model_id: str
    model_revision: str | None
    dataset: str
    eval_set: str  # relative path as declared
    eval_set_bytes: bytes
    device: str
    environment: JsonMapping
    started_at: str
    finished_at: str
    steps: tuple[StepRecord, ...]
    model_revision_declared: str | None = None
    sessions: tuple[JsonMapping, ...] | None = None

    def step_of(self, kind: str) -> StepRecord | None:
        """The last step of this kind, or None where the run had none."""
        steps = [step for step in self.steps if step.uses == kind]
        return steps[-1] if steps else None

    def read(self, step: StepRecord, name: str) -> bytes:
        """A file of a step's artifact: the bytes that were published, and no others.

        Raises RunFailed R105 where it has been changed since, R112 where it cannot be read; KeyError for another name.
        """
        path = step.artifact.file(name)
        with explained_reading(path):
            data = path.read_bytes() if path.is_file() else None
        if data is None or digest_bytes(data) != step.artifact.files[name]:
            raise changed_on_disk(step.artifact.type, step.id, [name], self.spec_path)
        return data


def now() -> str:
    """This second, ISO 8601, UTC."""
    return iso_time(time.time())


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC.

    >>> iso_time(0.9)
    '1970-01-01T00:00:00Z'
    """
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def journal_path(runspec_dir: Path, run_version: str) -> Path:
    """The path of a run's journal."""
    return runspec_dir / "runs" / run_version / "journal.jsonl"


def read_journal(path: Path) -> list[JsonObject]:
    """All events, oldest first; [] where there is no journal. A last line torn by a kill is no event.

    Raises RunFailed R111 where a line is not what was written, R112 where the file cannot be read.
    """
    return _read(path).events


def _read(path: Path) -> Lines:
    cure = f"without it no step is computed again, and its artifacts are recorded anew: {_move_away(path)}"
    lines = parse_lines(read_state(path, cure) or b"")
    if lines.damaged:
        numbers = ", ".join(map(str, lines.damaged[:5])) + ", …" * (len(lines.damaged) > 5)
        raise damaged_journal(path, f"line{'s' * (len(lines.damaged) > 1)} {numbers}: not what was written")
    return lines


def damaged_journal(path: Path, what: str) -> RunFailed:
    """R111: the journal cannot say what happened. Artifacts are found without it."""
    return RunFailed(
        "R111",
        f"{path} is damaged: {what}",
        hint=f"move it away, then run again: {_move_away(path)}\n"
        "no step is computed again; the evidence then names the session that takes the artifacts over "
        "(its command, commit and machine), not the one that made them",
    )


def _move_away(path: Path) -> str:
    return shlex.join(["mv", str(path), f"{path}.damaged"])


def run_versions(runspec_dir: Path) -> list[str]:
    """Every run that has a journal, the newest first. Raises RunFailed R112."""
    runs = runspec_dir / "runs"
    with explained_reading(runs):
        try:
            folders = list(runs.iterdir())
        except FileNotFoundError:
            return []
        journals = [path for folder in folders if os.path.lexists(path := folder / "journal.jsonl")]
        ordered = sorted(journals, key=lambda path: (-path.lstat().st_mtime_ns, path.parent.name))
    return [path.parent.name for path in ordered]


class Journal:
    """The writer. The caller holds the run's lock; each event is one write and one fsync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = _read(path)
        self.events = lines.events
        self._end, self._is_open = lines.end, lines.is_open

    def append(self, event: str, **facts: Any) -> JsonObject:
        """Write one event and return it. Raises RunFailed where it cannot be written."""
        row: JsonObject = readable({"seq": len(self.events) + 1, "time": now(), "event": event, **facts})
        line = b"\n" * self._is_open + line_of(row)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append_line(line)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        self._end, self._is_open = self._end + len(line), False
        self.events.append(row)
        return row

    def _append_line(self, line: bytes) -> None:
        """After the last event: a line that was torn there is cut off."""
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
            stream.truncate(self._end)
            stream.seek(self._end)
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())

    def last(self, event: str, **facts: Any) -> JsonObject | None:
        """The newest event of this name that has these facts, or None."""
        row: JsonObject
        for row in reversed(self.events):
            if row["event"] == event and all(row.get(key) == value for key, value in facts.items()):
                return row
        return None
