"""``status``, ``show``, ``explain`` and ``logs``: they read what happened and change nothing."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.artifacts.holder import is_alive
from engine.artifacts.journal import journal_path, read_journal
from engine.artifacts.refusals import read_state
from engine.artifacts.store import Store
from engine.canonical import JsonMapping, JsonObject
from engine.commands import Reply, columns, pick
from engine.commands.loading import load, project_root, run_of, run_versions
from engine.errors import Diagnostic, InputInvalid, RunFailed
from engine.pipeline.attempts import Story, replaced_folder, story_of
from engine.pipeline.plan import explain as reasons
from engine.pipeline.plan import make_plan
from engine.pipeline.session.rows import story_of_sessions
from engine.printable import one_line

_STATES = {
    "verified": "verified",
    "evidence_rendered": "evidence rendered, not verified yet",
    "run_interrupted": "interrupted",
    "step_failed": "failed",
}


def _journal(root: Path, run_version: str) -> list[JsonObject]:
    return read_journal(journal_path(root / ".runspec", run_version))


def _is_running(root: Path, run_version: str) -> bool:
    """Whether the process that last took the run's lock is alive: that one, and not another with its number.

    For display only. Testing the lock itself would mean taking it, and a run that starts in that
    moment would be refused.
    """
    path = root / ".runspec" / "locks" / f"run-{run_version}.lock"
    try:
        return path.is_file() and is_alive(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return False


def _state(root: Path, run_version: str, events: Sequence[JsonMapping]) -> str:
    if not events:
        return "never run"
    last = str(events[-1]["event"])
    if last == "run_interrupted" and events[-1].get("reason") == "deadline":
        return "stopped by the session limit; the same `runspec run` resumes it"
    if last in _STATES:
        return _STATES[last]
    if _is_running(root, run_version):
        return "running"
    return "unfinished; the same `runspec run` resumes it"


def status(arguments: Namespace) -> Reply:
    """All runs of the project, or the steps of one run."""
    if arguments.run is not None:
        return _status_of(*run_of(arguments.run))
    root = project_root()
    runs: list[JsonObject] = []
    problems: list[Diagnostic] = []
    for name in run_versions(root):
        try:
            events = _journal(root, name)
        except RunFailed as error:  # one that cannot be read does not hide the others
            problems += error.diagnostics
            runs.append({"run_version": name, "state": "its journal cannot be read", "time": None})
            continue
        time_ = events[-1]["time"] if events else None
        runs.append({"run_version": name, "state": _state(root, name, events), "time": time_})
    size = _bytes_below(root / ".runspec")
    text = columns((str(run["run_version"]), str(run["time"] or "-"), str(run["state"])) for run in runs)
    text = text or "no run yet; start one: runspec run SPEC"
    text += f"\n.runspec/ holds {size / (1 << 20):.1f} MiB"
    document = {"ok": not problems, "runs": runs, "store_bytes": size,
                "diagnostics": [problem.as_json() for problem in problems]}  # fmt: skip
    return Reply(document, text, RunFailed.exit_code if problems else 0, tuple(problems))


def _bytes_below(folder: Path) -> int:
    """The size of all that can be seen; a run that is at work removes files meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total


def _status_of(root: Path, run_version: str) -> Reply:
    events = _journal(root, run_version)
    story, state = story_of(events), _state(root, run_version, events)
    kept = [path.relative_to(root).as_posix() for path in _kept(root, run_version)]
    sessions = story_of_sessions(events)
    model = _model_of(events)
    text = f"{run_version}: {state}\n{_table(story.steps)}".rstrip()
    if model is not None:
        text += f"\nmodel: {model['id']}, {model['from']}"
    if story.complete is not None:
        text += f"\nthe last complete run, verified {story.verified_at}:\n{_table(story.complete)}"
    if len(sessions) > 1:
        text += f"\nsessions:\n{_sessions_table(sessions)}"
    if kept:
        text += "\nevidence that later runs replaced:\n" + columns((f"{path}/",) for path in kept)
    document = {"ok": True, "run_version": run_version, "state": state, "steps": list(story.steps),
                "complete": _complete_of(story), "replaced": kept, "sessions": sessions, "model": model}  # fmt: skip
    return Reply(document, text)


def _model_of(events: Sequence[JsonMapping]) -> JsonObject | None:
    """Which model the newest step that read one began with, and from where; None where no step has."""
    for event in reversed(events):
        declared = ((event.get("ingredients") or {}).get("spec", {}).get("model") or {}).get("declared")
        if declared:
            return {"id": str(declared["id"]), "from": _origin(declared)}
    return None


def _origin(declared: JsonMapping) -> str:
    """Where a declared model comes from.

    >>> _origin({"init": "pretrained", "path": None, "kaggle": "google/gemma/transformers/2b/3", "revision": None})
    'google/gemma/transformers/2b/3 on Kaggle'
    """
    if declared["init"] == "random":
        return "random weights"
    if declared.get("kaggle"):
        return f"{declared['kaggle']} on Kaggle"
    if declared["path"] is not None:
        return f"the folder {one_line(str(declared['path']))}"
    return f"the hub at {declared['revision'] or 'its newest commit'}"


def _sessions_table(sessions: Sequence[JsonMapping]) -> str:
    """One line each: when it began, how it ended, what it published."""
    return columns(
        (
            str(row["number"]),
            str(row["started_at"]),
            str(row["ended"] or "no end recorded"),
            one_line(row["said"] or ""),
            ", ".join(map(str, row["published"])) or "-",
        )
        for row in sessions
    )


def _table(rows: Sequence[JsonMapping]) -> str:
    return columns((str(row["id"]), str(row["uses"] or ""), str(row["state"]), str(row["time"] or "")) for row in rows)


def _complete_of(story: Story) -> JsonObject | None:
    if story.complete is None:
        return None
    return {"verified_at": story.verified_at, "steps": list(story.complete)}


def _kept(root: Path, run_version: str) -> list[Path]:
    """The folders of evidence that a later run replaced, the oldest first."""
    folder = replaced_folder(root, run_version)
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in entries if path.is_dir() and path.name[0] != ".")  # a dot: a copy that is not whole


def show(arguments: Namespace) -> Reply:
    """What the steps of a run published: the last attempt, and apart from it the last complete run."""
    root, run_version = run_of(arguments.run)
    events = _journal(root, run_version)
    story = story_of(events)
    of_attempt = [row for row in story.steps if "type" in row]
    of_complete = list(story.complete) if story.complete is not None else []
    if arguments.step is not None:
        pick("finished step", arguments.step, {str(row["id"]) for row in [*of_attempt, *of_complete]})
        of_attempt, of_complete = (
            [row for row in rows if row["id"] == arguments.step] for rows in (of_attempt, of_complete)
        )
    store, with_files = Store(root), arguments.step is not None
    steps, text = _artifacts(of_attempt, store, with_files=with_files)
    sessions = story_of_sessions(events)
    document: JsonObject = {
        "ok": True,
        "run_version": run_version,
        "steps": steps,
        "complete": None,
        "sessions": sessions,
    }
    if story.complete is not None:
        complete, more = _artifacts(of_complete, store, with_files=with_files)
        document["complete"] = {"verified_at": story.verified_at, "steps": complete}
        nothing = f'  step "{arguments.step}" has not finished' if arguments.step else "  no step has finished yet"
        text = (f"the last attempt, not complete:\n{text or nothing}\n\n"
                f"the last complete run, verified {story.verified_at}:\n{more}")  # fmt: skip
    if len(sessions) > 1 and arguments.step is None:
        text = f"{text}\nsessions:\n{_sessions_table(sessions)}".lstrip()
    return Reply(document, text or f"{run_version}: no step has finished yet")


def _artifacts(rows: Sequence[JsonMapping], store: Store, *, with_files: bool) -> tuple[list[JsonObject], str]:
    """The rows with facts, files and digest of their artifacts, and as text."""
    steps, lines = [], []
    for row in rows:
        artifact = store.find(str(row["type"]), str(row["fingerprint"]))
        facts = dict(artifact.facts) if artifact else None
        files = dict(artifact.files) if artifact else None
        steps.append({**row, "digest": artifact.digest if artifact else None, "facts": facts, "files": files})
        lines.append(one_line(f"{row['id']} ({row.get('uses', '?')}) {row['time']}  {row['path']}/"))
        if artifact is None:
            flaw = store.flaw(str(row["type"]), str(row["fingerprint"]))
            lines.append(f"  {one_line(flaw or 'its artifact is missing')}; the next `runspec run` makes it again")
        lines.append(columns([(str(key), _short(value)) for key, value in (facts or {}).items()], "  "))
        if with_files and files:
            lines.append(columns([(digest[:12], name) for name, digest in files.items()], "  "))
    return steps, "\n".join(line for line in lines if line)


def _short(value: object, limit: int = 100) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def explain(arguments: Namespace) -> Reply:
    """Why each step would run or be skipped."""
    spec, handlers = load(arguments.spec, arguments.overrides)
    if arguments.step is not None:
        pick("step", arguments.step, [step.id for step in spec.steps])
    events = _journal(spec.root, spec.run_version)
    previous = {event["id"]: event["ingredients"] for event in events if "ingredients" in event}
    steps = []
    for planned in make_plan(spec, handlers, Store(spec.root)).steps:
        if arguments.step in (None, planned.step.id):
            because = reasons(planned, previous.get(planned.step.id))
            steps.append({"id": planned.step.id, "action": planned.action, "because": because})
    text = "\n".join(line for step in steps for line in step["because"])
    return Reply({"ok": True, "steps": steps}, text)


def logs(arguments: Namespace) -> Reply:
    """The JSONL log as lines."""
    root, run_version = run_of(arguments.run)
    path = root / ".runspec" / "logs" / f"{run_version}.jsonl"
    data = read_state(path, "without it the next run begins a new one")
    if data is None:
        raise InputInvalid("U113", f"run {run_version} has no log at {path}")
    lines = data.decode(errors="replace").splitlines()
    if arguments.tail is not None:
        lines = lines[-arguments.tail :] if arguments.tail > 0 else []
    events = [event for event in map(_parsed, lines) if event is not None]
    document = {"ok": True, "run_version": run_version, "file": str(path), "events": events}
    return Reply(document, "\n".join(map(_log_line, events)))


def _parsed(line: str) -> JsonObject | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # the torn last line of a killed run
    return event if isinstance(event, dict) else None


def _log_line(event: JsonMapping) -> str:
    hidden = ("time", "level", "event", "run_version")
    facts = " ".join(f"{key}={_short(value)}" for key, value in event.items() if key not in hidden)
    return one_line(f"{event.get('time', '?')} {event.get('event', '?')} {facts}").rstrip()
