"""Takes over what another session left, on whatever machine: everything is copied, compared with ``session.json``, and only then put in its place.

In: the folder of ``--continue-from``, which may be read-only, and the project, which may be empty. Out: artifacts, the work of the unfinished step and the
journal, in this order: the journal comes last, so that a take-over that was killed is done again. Where the project has resumed
from this very carry-over already, nothing is touched. Refused: R116 damaged, R117 of another run-spec, engine or run, R118 a hole in the
chain, R119 the project has another history.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import engine
from engine.artifacts.journal import journal_path, read_journal
from engine.artifacts.lines import parse_lines
from engine.artifacts.store import Store, explain_os_error
from engine.canonical import JsonMapping, JsonObject, write_atomic
from engine.errors import Diagnostic, InputInvalid, Where
from engine.pipeline.plan import Plan, differences, make_plan
from engine.pipeline.session.carried import FILE, JOURNAL, STORE, WORK, SessionFile, copy_file, damaged, read_session
from engine.protocol.sessions import chain_problems
from engine.runspec.model import Spec
from engine.steps import Handler


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Which carry-over this session resumes from; ``said``: for a person. ``is_recorded``: the journal has a session that did."""

    number: int
    digest: str
    said: str
    is_recorded: bool

    def as_json(self) -> JsonObject | None:
        """For the journal."""
        return {"number": self.number, "session_sha256": self.digest} if not self.is_recorded else None


def take_over_session(folder: Path, spec: Spec, handlers: Mapping[str, Handler], store: Store) -> TakenOver:
    """The caller holds the run's lock. Raises InputInvalid R116 to R119; RunFailed where the project cannot be written."""
    session = read_session(folder)
    _refuse_another_run(session, spec)
    _refuse_holes(session)
    number = session.values["number"]
    local = journal_path(store.root, spec.run_version)
    carried, own = _carried_events(session), read_journal(local)
    if own[: len(carried)] == carried:
        # A run that found nothing to do has taken it over without a session of its own: the next one records it.
        said = f"this project has resumed from session {number} already"
        return TakenOver(number, session.digest, said, session.digest in _resumed_from(own[len(carried) :]))
    if carried[: len(own)] != own:
        raise InputInvalid(
            "R119",
            f"this project has a run {spec.run_version} of its own, which is not the one in {folder}",
            hint=f"continue in a fresh project folder, or move the run's journal away: mv {local} {local}.other",
        )
    incoming = store.incoming(spec.run_version)
    try:
        _copy(session, incoming)
        _refuse_other_fingerprints(session, spec, handlers, incoming, carried)
        _place(session, store, incoming)
        write_atomic(local, (incoming / JOURNAL).read_bytes())
    except OSError as error:
        raise explain_os_error(error, incoming) from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    kept = (session.values["begun"] or {}).get("kept")
    return TakenOver(number, session.digest, f"continues from session {number}" + (f", {kept}" if kept else ""), False)


def _resumed_from(events: Sequence[JsonMapping]) -> set[object]:
    """The carry-overs from which sessions of a journal say that they resumed."""
    found = (event.get("continued_from") for event in events if event["event"] == "run_started")
    return {before["session_sha256"] for before in found if before}


def _refuse_another_run(session: SessionFile, spec: Spec) -> None:
    values = session.values
    expected = {
        "engine": engine.__version__,
        "run_version": spec.run_version,
        "spec_sha256": spec.digest,
        "overrides": {override.path: override.value for override in spec.overrides},
    }
    found = [change for name, value in expected.items() for change in differences(values[name], value, name)]
    if found:
        raise InputInvalid.of(_another(session, change) for change in found)
    if values["state"] == "finished":
        raise InputInvalid(
            "R117",
            f"{session.folder} is of a run that has finished: nothing is left to do",
            hint="leave --continue-from out",
        )


def _another(session: SessionFile, change: str) -> Diagnostic:
    return Diagnostic(
        "R117",
        f"the carry-over is of another run: {change} (there -> here)",
        Where(file=str(session.folder / FILE)),
        hint="continue with the engine, the run-spec and the overrides that the session before had",
    )


def _refuse_holes(session: SessionFile) -> None:
    """R118: the sessions must be numbered without a gap, and each must have begun where the one before it ended."""
    problems = chain_problems(session.values["sessions"])
    starts = [event for event in _carried_events(session) if event["event"] == "run_started"]
    if len(starts) != session.values["number"]:
        problems.append(f"it says that it is session {session.values['number']}, and its journal has {len(starts)}")
    for number, event in enumerate(starts, start=1):
        before = event.get("continued_from")
        if before is not None and before.get("number") != number - 1:
            problems.append(f"session {number} continued from session {before.get('number')}")
    if problems:
        raise InputInvalid.of(
            Diagnostic(
                "R118",
                f"the chain of sessions has a hole: {problem}",
                Where(file=str(session.folder / FILE)),
                hint="continue from the folder that the last session really left; every session resumes from the one before it",
            )
            for problem in problems
        )


def _carried_events(session: SessionFile) -> list[JsonObject]:
    try:
        data = session.source(JOURNAL).read_bytes()
    except OSError as error:
        raise damaged(session.folder, f"{JOURNAL} cannot be read: {error.strerror or error}") from error
    lines = parse_lines(data)
    if lines.damaged or lines.end != len(data):
        raise damaged(session.folder, f"{JOURNAL} is not what was written")
    return lines.events


def _copy(session: SessionFile, incoming: Path) -> None:
    """Every file, whole; R116 names those that are not what was written."""
    problems = []
    for name, row in session.values["files"].items():
        target = incoming / (f"begun/{name}" if name.startswith(f"{WORK}/") else _place_of(name))
        try:
            found = copy_file(session.source(name), target)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            problems.append(f"{name} is missing")
            continue
        if not isinstance(row, dict) or found != (row.get("sha256"), row.get("bytes")):
            problems.append(f"{name} is not what was written")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise damaged(session.folder, "; ".join(problems[:5]) + more)


def _place_of(name: str) -> str:
    return f".runspec/{name}" if name.startswith(f"{STORE}/") else name


def _refuse_other_fingerprints(
    session: SessionFile, spec: Spec, handlers: Mapping[str, Handler], incoming: Path, carried: list[JsonObject]
) -> None:
    """R117 where this machine would make a step from something else (a file, a library): nothing of it could be used."""
    plan = make_plan(spec, handlers, Store(incoming))
    before: dict[str, JsonMapping] = {event["id"]: event["ingredients"] for event in carried if "ingredients" in event}
    begun = session.values["begun"]
    if begun is not None:
        before[begun["id"]] = begun["ingredients"]
    rows = {row["id"]: row for row in session.values["steps"]}
    changes = [change for entry in plan.steps for change in _changes(entry.step.id, plan, rows, before, begun)]
    if changes:
        raise InputInvalid.of(_another(session, change) for change in changes)


def _changes(
    step_id: str,
    plan: Plan,
    rows: Mapping[str, JsonMapping],
    before: Mapping[str, JsonMapping],
    begun: JsonMapping | None,
) -> list[str]:
    entry = next(entry for entry in plan.steps if entry.step.id == step_id)
    row = rows.get(step_id)
    if row is None:
        return [f"{step_id} is a step here alone"]
    is_begun = begun is not None and begun["id"] == step_id
    if entry.fingerprint is None or (row["state"] != "published" and not is_begun):
        return []
    same = entry.work_key == begun["work_key"] if is_begun and begun else entry.fingerprint == row["fingerprint"]
    if same:
        return []
    found = differences(before.get(step_id, {}), dict(entry.ingredients))
    return [f"{step_id}: {change}" for change in found] or [f"{step_id} has another fingerprint"]


def _place(session: SessionFile, store: Store, incoming: Path) -> None:
    for row in session.values["steps"]:
        if row["state"] == "published":
            home = store.home(row["type"], row["fingerprint"])
            store.adopt(row["type"], row["fingerprint"], incoming / ".runspec" / home.relative_to(store.root))
            work = store.staging(row["work_key"]).root
            if work.exists():  # of an attempt here, which another machine has finished
                store.discard(work)
    begun = session.values["begun"]
    if begun is not None:
        store.adopt_work(begun["work_key"], incoming / "begun")
