"""The end of a session whose run is not finished: evidence that says so, the recipe of the next session, the carry-over.

In: the run as it stands when its limit was reached, or a stop was asked for. Out: ``incomplete.json`` in the evidence folder,
``.runspec/runs/<run_version>/next_session.json``, the folder of ``--session-out``; and what to print. In this order: the small files first.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.journal import Journal, journal_path
from engine.artifacts.store import Store, explain_os_error
from engine.canonical import JsonMapping, JsonObject, pretty_json, write_atomic
from engine.errors import InputInvalid, Interrupted, RunspecError
from engine.evidence.unfinished import write_unfinished
from engine.pipeline.plan import make_plan, relative
from engine.pipeline.session.carry_over import Standing, kept_of, prepare_out, write_carry_over
from engine.pipeline.session.limits import SessionOptions
from engine.pipeline.session.rows import chain_of, story_of_sessions
from engine.pipeline.session.take_over import TakenOver, take_over_session
from engine.protocol.deadline import Deadline, in_words
from engine.runspec.model import Spec
from engine.steps import Handler

RECIPE = "next_session.json"
OPTIONS = ("--session-limit", "--session-out", "--continue-from")


@dataclass(frozen=True, slots=True)
class Session:
    """One attempt of a run, as its end needs it. ``parent``: the digest of the carry-over that it was given."""

    spec: Spec
    handlers: Mapping[str, Handler]
    store: Store
    journal: Journal
    options: SessionOptions
    command: str
    note: Callable[[str], None]
    parent: str | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything of the run is on record: before that there is no journal, and nothing to resume from."""
        return bool(self.journal.events)


def open_session(
    options: SessionOptions, spec: Spec, handlers: Mapping[str, Handler], store: Store, note: Callable[[str], None]
) -> TakenOver | None:
    """Before anything runs: the folder for the carry-over can be written, and what an earlier session left is in its place."""
    if options.out is not None:
        prepare_out(options.out)
    if options.continue_from is None:
        return None
    taken = take_over_session(options.continue_from, spec, handlers, store)
    note(taken.said)
    return taken


def too_short(deadline: Deadline | None, step_id: str, error: BaseException | None) -> InputInvalid:
    """R114: in this session nothing was done that the next one could resume from, and the next would do no better."""
    limit = in_words(deadline.limit_seconds) if deadline is not None else "no time"
    margin = in_words(deadline.margin_seconds) if deadline is not None else "none"
    needs = error.hint if isinstance(error, RunspecError) else None
    return InputInvalid(
        "R114",
        f'the session limit of {limit} is too short: step "{step_id}" got nowhere in it',
        hint=(f"measured: {needs}; " if needs else "")
        + f"the margin is {margin}; it must be long enough for the start, one unit of work (a train step, an answer, a step that "
        "cannot be resumed) and a save: give a longer --session-limit",
    )


def with_next_session(error: RunspecError, session: Session) -> RunspecError:
    """The error, with how the run is resumed; the files of the next session are written."""
    if not session.has_begun or (isinstance(error, Interrupted) and not session.options.is_one_of_many):
        return error
    how = end_unfinished(session)
    return type(error)(error.code, str(error.args[0]), hint=f"nothing is lost\n{how}")


def end_unfinished(session: Session) -> str:
    """Write everything; returns how the run is resumed, for a person. Raises RunFailed where the carry-over cannot be written."""
    standing = standing_of(session)
    recipe = recipe_of(session, standing)
    _write_recipe(session, recipe)
    _write_evidence(session, standing, recipe)
    out = session.options.out
    if out is not None:
        write_carry_over(out, session.spec, session.store, session.journal, standing, recipe)
        write_atomic(out / RECIPE, pretty_json(recipe))
        session.note(f"carry-over for the next session in {out}/")
    return "\n".join(_how_to_go_on(recipe))


def end_finished(session: Session) -> None:
    """A run that is finished has no next session; ``--session-out`` says so."""
    recipe_path(session).unlink(missing_ok=True)
    out = session.options.out
    if out is not None:
        recipe: JsonObject = {"schema_version": 1, "run_version": session.spec.run_version, "state": "finished"}
        write_carry_over(
            out, session.spec, session.store, session.journal, standing_of(session, is_finished=True), recipe
        )
        (out / RECIPE).unlink(missing_ok=True)


def standing_of(session: Session, *, is_finished: bool = False) -> Standing:
    """The plan as it is now, and what is kept of the first step that is not finished."""
    steps = make_plan(session.spec, session.handlers, session.store).steps
    begun = next((entry for entry in steps if entry.action == "run" and entry.fingerprint is not None), None)
    kept = kept_of(begun, session.store) if begun is not None else None
    starts = [event for event in session.journal.events if event["event"] == "run_started"]
    parents = [event["continued_from"] for event in starts if event.get("continued_from")]
    made = {entry.step.id: entry.artifact for entry in steps if entry.artifact is not None and entry.action == "skip"}
    return Standing(
        steps=steps,
        begun=begun if kept is not None else None,
        kept=kept,
        is_finished=is_finished,
        number=len(starts),
        parent=session.parent or (parents[-1]["session_sha256"] if parents else None),
        sessions=tuple(dict(row) for row in kept.sessions) if kept and kept.sessions else chain_of(made),
    )


def recipe_of(session: Session, standing: Standing) -> JsonObject:
    """What is left, and what to type: here, and on another machine."""
    here = without_options(session.command, ("--continue-from",))
    elsewhere = None
    if session.options.out is not None:
        elsewhere = f"{without_options(session.command, ('--continue-from',))} --continue-from {shlex.quote(session.options.out.name)}"
    return {
        "schema_version": 1,
        "run_version": session.spec.run_version,
        "state": "unfinished",
        "session": standing.number,
        "left": _left(standing),
        "kept": standing.kept.said if standing.kept else None,
        "here": here,
        "elsewhere": elsewhere,
    }


def _left(standing: Standing) -> list[JsonObject]:
    rows = []
    for entry in standing.steps:
        if entry.action == "run":
            is_begun = (
                standing.begun is not None and entry.step.id == standing.begun.step.id and standing.kept is not None
            )
            state = f"at {standing.kept.said}" if is_begun and standing.kept else "not begun"
            rows.append({"id": entry.step.id, "uses": entry.step.uses, "state": state})
    return rows or [{"id": "evidence", "uses": None, "state": "not made"}]


def without_options(command: str, options: tuple[str, ...] = OPTIONS) -> str:
    """A command without the options that say when and where a session ends: they change no result.

    >>> without_options("runspec run a.yaml --session-limit 2m --session-out=next train.seed=1")
    'runspec run a.yaml train.seed=1'
    """
    if not any(option in command for option in options):
        return command
    words, kept, skips = _words(command), [], False
    for word in words:
        name, sign, _ = word.partition("=")
        if skips or name in options:
            skips = not skips and not sign
            continue
        kept.append(word)
    return " ".join(kept)


def _words(command: str) -> list[str]:
    """The words as they were quoted, so that they can be put together again."""
    words: list[str] = []
    for part in command.split(" "):
        is_open = bool(words) and words[-1].count("'") % 2 == 1
        if is_open:
            words[-1] += f" {part}"
        else:
            words.append(part)
    return words


def recipe_path(session: Session) -> Path:
    """Beside the journal."""
    return journal_path(session.store.root, session.spec.run_version).parent / RECIPE


def _write_recipe(session: Session, recipe: JsonMapping) -> None:
    path = recipe_path(session)
    try:
        write_atomic(path, pretty_json(recipe))
    except OSError as error:
        raise explain_os_error(error, path) from error


def _write_evidence(session: Session, standing: Standing, recipe: JsonMapping) -> None:
    """A refusal here must not cost the carry-over: it is said instead."""
    spec = session.spec
    folder = spec.resolve(spec.evidence.dir)
    document = {
        "spec_path": relative(spec.path, spec.root),
        "spec_sha256": spec.digest,
        "overrides": {override.path: override.value for override in spec.overrides},
        "command": session.command,
        "done": [entry.step.id for entry in standing.steps if entry.action == "skip"],
        "left": recipe["left"],
        "sessions": story_of_sessions(session.journal.events),
        "chain": list(standing.sessions),
        "next": {"here": recipe["here"], "elsewhere": recipe["elsewhere"]},
    }
    try:
        if write_unfinished(folder, spec.run_version, document, {"runspec.yaml": spec.data}):
            session.note(f"evidence in {relative(folder, spec.root)}/ says that the run is incomplete")
    except (RunspecError, OSError) as error:
        reason = error.args[0] if isinstance(error, RunspecError) else error.strerror or error
        session.note(f"warning: no evidence of the unfinished run was written: {reason}")


def _how_to_go_on(recipe: JsonMapping) -> list[str]:
    left = ", ".join(f"{row['id']} ({row['state']})" for row in recipe["left"])
    lines = [f"left: {left}", f"resume here: {recipe['here']}"]
    return lines + (
        [f"on another machine, with a copy of the folder: {recipe['elsewhere']}"] if recipe["elsewhere"] else []
    )
