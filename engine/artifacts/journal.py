"""The append-only journal of a run, and the run record that is made from it.

The journal is ``.runspec/runs/<run_version>/journal.jsonl``, one JSON object a line: ``seq``, ``time``,
``event`` and the event's own keys. It is append-only; the reader skips a line torn by a
kill. Events: ``run_started`` (session, command, spec digest, overrides, steps, environment), ``step_started``,
``step_finished``, ``step_reused``, ``step_failed``, ``run_interrupted``, ``evidence_rendered``, ``verified``.

    >>> RunRecord.__dataclass_fields__["run_version"].type
    'str'
"""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.artifacts.store import Artifact, explain_os_error
from engine.canonical import JsonMapping, JsonObject


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
    change, or None), kaggle {run_type, notebook_url, notebook_version, run_id} or None.
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

    def step_of(self, kind: str) -> StepRecord | None:
        """The last step of this kind, or None where the run had none."""
        steps = [step for step in self.steps if step.uses == kind]
        return steps[-1] if steps else None


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
    """All complete events, oldest first; [] where there is no journal. Torn lines are skipped."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a line torn by a kill, or the empty string after the last newline
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


class Journal:
    """The writer. The caller holds the run's lock; each event is one write and one fsync."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = read_journal(path)

    def append(self, event: str, **facts: Any) -> JsonObject:
        """Write one event and return it. Raises RunFailed where it cannot be written."""
        row = {"seq": len(self.events) + 1, "time": now(), "event": event, **facts}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append_line(line)
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        self.events.append(row)
        return row

    def _append_line(self, line: bytes) -> None:
        with self.path.open("ab+") as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                if stream.read(1) != b"\n":  # a torn line keeps a line of its own
                    line = b"\n" + line
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
