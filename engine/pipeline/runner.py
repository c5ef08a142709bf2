"""Plan + handlers -> run record, and the one function that does a complete run.

:func:`execute` is what ``runspec run`` is: lock, run the steps, make the record, render the evidence, package,
verify. What an earlier run has done is not done again: a run with nothing to do writes nothing, not even to
the journal.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.artifacts.journal import Journal, RunRecord, journal_path, now
from engine.artifacts.store import Artifact, Store, explain_os_error
from engine.canonical import finite_or_null
from engine.errors import DeadlineReached, InputInvalid, Interrupted, NothingDone, RunFailed, RunspecError
from engine.pipeline.clock import REMARK, Clock, clock_facts
from engine.pipeline.finish import (
    Finish,
    check_secrets,
    check_targets,
    check_targets_writable,
    check_templates_of,
    finish_run,
    sweep_targets,
)
from engine.pipeline.older_artifacts import check_artifact, take_over
from engine.pipeline.plan import Plan, PlannedStep, Selection, make_plan, plan_step
from engine.pipeline.provenance import environment
from engine.pipeline.record import make_record
from engine.pipeline.replaced import remove_partial, will_replace
from engine.pipeline.session.carry_over import is_resumable
from engine.pipeline.session.ending import (
    Session,
    end_finished,
    end_unfinished,
    open_session,
    too_short,
    with_next_session,
)
from engine.pipeline.session.limits import NO_SESSION, Limits, SessionOptions
from engine.pipeline.session.take_over import TakenOver
from engine.pipeline.stop import Stop, stop_on_signals
from engine.protocol.deadline import Deadline
from engine.protocol.events.checkpoints import CheckpointSaved
from engine.protocol.events.generation import Generated
from engine.protocol.sessions import RunSession
from engine.runspec.model import Spec
from engine.steps import Handler, StepContext

if TYPE_CHECKING:
    from engine.protocol.events.base import Event


class RunDisplay(Protocol):
    """Shows the run to a person. engine.display.plain has the implementations."""

    def step_started(self, planned: PlannedStep, index: int, total: int) -> None:
        """A step begins."""

    def event(self, event: Event | Mapping[str, Any]) -> None:
        """Something live: a train step, a generated batch."""

    def note(self, text: str) -> None:
        """One line worth reading."""

    def step_finished(self, step_id: str, seconds: float, facts: Mapping[str, Any]) -> None:
        """A step is done and published."""

    def step_skipped(self, step_id: str, reason: str) -> None:
        """A step does not run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did. ``finish`` is None where the command selected only some of the steps.

    ``made``: the artifact of each step, in the spec's order, where there is one.
    """

    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    record: RunRecord | None
    finish: Finish | None
    made: Mapping[str, Artifact] = field(default_factory=dict)


def execute(
    spec: Spec,
    handlers: Mapping[str, Handler],
    *,
    console: RunDisplay,
    command: str,
    selection: Selection | None = None,
    options: SessionOptions = NO_SESSION,
) -> Outcome:
    """Run what needs running, then evidence, package, verification. Raises RunspecError."""
    selection = selection or Selection()
    store = Store(spec.root)
    with store.lock(f"run-{spec.run_version}"), stop_on_signals(console.note) as stop:
        store.sweep(spec.run_version)
        before = open_session(options, spec, handlers, store, console.note)
        journal = Journal(journal_path(store.root, spec.run_version))
        run = _Run(spec, handlers, store, journal, console, command, selection, stop, options.deadline, before)
        parent = before.digest if before is not None else None
        session = Session(spec, handlers, store, journal, options, command, console.note, parent)
        if not selection.partial:
            sweep_targets(spec)
            remove_partial(spec)
            check_targets(spec)
        try:
            run.run_steps()
            if run.ran and not selection.partial and run.limits.is_over():
                raise DeadlineReached("R115", "the session limit was reached before the evidence was made")
        except (DeadlineReached, Interrupted) as error:
            raise with_next_session(error, session) from error
        except InputInvalid as error:
            if error.code == "R114" and options.out is not None and session.has_begun:  # what is done is carried over
                end_unfinished(session)
            raise
        if selection.partial:
            if options.out is not None:
                end_unfinished(session)
            return Outcome(tuple(run.ran), tuple(run.skipped), None, None, run.made)
        record = make_record(spec, run.made, journal)
        finish = finish_run(spec, record, journal, console.note)
        end_finished(session)
    return Outcome(tuple(run.ran), tuple(run.skipped), record, finish, run.made)


@dataclass(slots=True)
class _Run:
    """The state of one ``execute``: the artifacts made so far."""

    spec: Spec
    handlers: Mapping[str, Handler]
    store: Store
    journal: Journal
    console: RunDisplay
    command: str
    selection: Selection
    stop: Stop
    deadline: Deadline | None = None
    before: TakenOver | None = None
    made: dict[str, Artifact] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    session: str | None = None
    clock: Clock = field(default_factory=Clock)
    has_saved: bool = False
    _began: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """When a step has to stop: early enough for what is finished to be carried over."""
        if self.deadline is None or not self.deadline.carries:
            return Limits(self.deadline, self.stop)
        count = sum((made.path / name).stat().st_size for made in self.made.values() for name in made.files)
        return Limits(replace(self.deadline, carried_bytes=count), self.stop)

    def run_steps(self) -> None:
        """Every step in order: skipped, or run and published."""
        plan = make_plan(self.spec, self.handlers, self.store, self.selection)
        self._refuse_impossible(plan)
        due = [entry for entry in plan.steps if entry.action == "run"]
        if due and not self.selection.partial:
            check_templates_of(self.spec)
            check_secrets(self.spec)
            check_targets_writable(self.spec)
            if replaces := will_replace(self.spec, self.handlers, self.store):
                self.console.note(replaces)
        self.store.check_publication({entry.handler.makes for entry in due})
        total = len(self.spec.steps)
        for index, step in enumerate(self.spec.steps, start=1):
            planned = plan_step(self.spec, step, self.handlers, self.store, self.made, self.selection)
            if planned.action == "skip":
                self._skip(planned)
                continue
            if self.limits():
                raise self._stopped(planned, None)
            self._start_session()
            self.console.step_started(planned, index, total)
            self.made[step.id] = self._attempt(planned)
            self.ran.append(step.id)

    def _refuse_impossible(self, plan: Plan) -> None:
        """R108: ``--only`` and ``--from`` need the artifacts of the steps before them."""
        selected = {entry.step.id for entry in plan.steps if self.selection.covers(self.spec, entry.step.id)}
        made = {entry.step.id for entry in plan.steps if entry.artifact is not None}
        for entry in plan.steps:
            if entry.step.id not in selected:
                continue
            for source in entry.sources.values():
                if source.id not in selected | made:
                    raise RunFailed(
                        "R108",
                        f'step "{entry.step.id}" needs "{source.id}", which has not been made yet',
                        hint=f"run the complete spec, or start with --from {source.id}",
                    )

    def _skip(self, planned: PlannedStep) -> None:
        if planned.artifact is not None:
            said = take_over(self.store, self.spec, planned.step.id, planned.artifact)
            if said is not None:
                self.console.note(said)
            self.made[planned.step.id] = planned.artifact
            if self._last_published(planned.step.id) != planned.fingerprint:
                self._start_session()  # made under another spec or run_version: the journal records the reuse
                self._journal_finished("step_reused", planned, planned.artifact)
        self.skipped.append(planned.step.id)
        self.console.step_skipped(planned.step.id, planned.reason)

    def _last_published(self, step_id: str) -> str | None:
        """The fingerprint of the artifact that the journal names last for a step."""
        events = [event for event in self.journal.events if event.get("id") == step_id and "type" in event]
        return str(events[-1]["fingerprint"]) if events else None

    def _start_session(self) -> None:
        """The first write of a run; a run with nothing to do does not start a session."""
        if self.session is not None:
            return
        self.session = uuid.uuid4().hex
        before, began = self.journal.events[-1].get("time") if self.journal.events else None, now()
        libraries = {name for handler in self.handlers.values() for name in handler.environment()}
        generated = (self.spec.evidence.dir, self.spec.package.dir)
        self._began = self.journal.append(
            "run_started",
            session=self.session,
            command=self.command,
            spec_digest=self.spec.digest,
            overrides={override.path: override.value for override in self.spec.overrides},
            steps={step.id: step.uses for step in self.spec.steps},
            **self._as_session(),
            environment=environment(self.spec.root, libraries, generated, self.console.note)
            | clock_facts(before, began),
        )

    def _as_session(self) -> dict[str, Any]:
        """What the journal has of a session that is one of many."""
        deadline, before = self.deadline, self.before.as_json() if self.before else None
        limit = {"session_limit_seconds": deadline.limit_seconds} if deadline else {}
        return limit | ({"continued_from": before} if before else {})

    def _attempt(self, planned: PlannedStep) -> Artifact:
        """One step from staging to publication; a failure is journaled and explained."""
        step = planned.step
        assert planned.fingerprint is not None  # make_plan ran everything before it
        if planned.flaw is not None:
            self.console.note(f'step "{step.id}": {planned.reason}')
        self._check_inputs(planned)
        self.journal.append(
            "step_started", session=self.session, id=step.id, uses=step.uses, fingerprint=planned.fingerprint
        )
        started = time.monotonic()
        try:
            with self.store.lock(f"step-{planned.work_key[:16]}"):
                artifact = self._make(planned)
        except (RunspecError, KeyboardInterrupt) as error:
            raise self._failed(planned, error) from error
        self._journal_finished("step_finished", planned, artifact)
        self.console.step_finished(step.id, time.monotonic() - started, artifact.facts)
        return artifact

    def _make(self, planned: PlannedStep) -> Artifact:
        step, handler, limits = planned.step, planned.handler, self.limits
        self.has_saved = False
        staging = self.store.stage(planned.work_key)
        started = self.clock.start()
        ctx = StepContext(
            spec=self.spec,
            step=step,
            inputs=planned.inputs,
            ahead=planned.ahead,
            out=staging.out,
            work=staging.work,
            cache=self.store.cache,
            emit=self._observe,
            note=self.console.note,
            stopping=limits,
            session=RunSession(str(self.session), str(self._began["time"])),
            deadline=limits.deadline,
        )
        try:
            result = handler.run(ctx)
        except OSError as error:
            raise explain_os_error(error, staging.root) from error
        missing = [name for name in handler.files if not (staging.out / name).is_file()]
        if missing:
            raise RunFailed(
                "R109",
                f'step "{step.id}" ({step.uses}) did not write {", ".join(missing)}',
                hint=f"this is a bug in the handler of {step.uses}",
            )
        period = self.clock.stop(started)
        if period.remark:
            self.console.note(f"warning: {period.remark}; the evidence will say so")
        manifest = {
            "type": handler.makes,
            "kind": handler.kind,
            "fingerprint": planned.fingerprint,
            "facts": finite_or_null(result.facts) | ({REMARK: period.remark} if period.remark else {}),
            "ingredients": dict(planned.ingredients),
            "started_at": period.started_at,
            "finished_at": period.finished_at,
        }
        return self.store.publish(staging, manifest, handler.measured)

    def _observe(self, event: Event | Mapping[str, Any]) -> None:
        """Pass an event on; after one of these an unfinished step has saved something in this session."""
        self.has_saved |= isinstance(event, CheckpointSaved | Generated)
        self.console.event(event)

    def _check_inputs(self, planned: PlannedStep) -> None:
        """R105: a step's inputs must not have changed since they were published."""
        for type_, artifact in planned.inputs.items():
            check_artifact(self.store, self.spec, planned.sources[type_].id, artifact)

    def _failed(self, planned: PlannedStep, error: BaseException) -> RunspecError:
        step_id = planned.step.id
        if isinstance(error, Interrupted | DeadlineReached | KeyboardInterrupt):
            return self._stopped(planned, error)
        assert isinstance(error, RunspecError)
        self.journal.append(
            "step_failed", session=self.session, id=step_id, diagnostics=[row.as_json() for row in error.diagnostics]
        )
        return error

    def _stopped(self, planned: PlannedStep, error: BaseException | None) -> RunspecError:
        """The session ends before its run: on request (R110), for its limit (R115), or because the limit is too short (R114)."""
        said = str(error.args[0]) if isinstance(error, RunspecError) else None
        is_asked = self.stop() or isinstance(error, KeyboardInterrupt)
        by_limit = not is_asked and (isinstance(error, DeadlineReached) or self.limits.is_over())
        if self.session is not None:
            reason = {"reason": "deadline"} if by_limit else {}
            in_step = {"id": planned.step.id} if error is not None else {}
            self.journal.append("run_interrupted", session=self.session, **in_step, **reason, said=said)
        when = f'in step "{planned.step.id}"' if error is not None else "between two steps"
        details = f": {said}" if said else ""
        if not by_limit:
            return Interrupted("R110", f"stopped {when}{details}", hint=f"nothing is lost; resume with: {self.command}")
        if not (self.ran or self._has_got_on(planned, error)):
            return too_short(self.deadline, planned.step.id, error)
        return DeadlineReached("R115", f"the session limit was reached {when}{details}")

    def _has_got_on(self, planned: PlannedStep, error: BaseException | None) -> bool:
        """Whether the unfinished step has done something in this session that the next one resumes from."""
        if isinstance(error, DeadlineReached):
            return not isinstance(error, NothingDone)
        return error is not None and self.has_saved and is_resumable(planned.handler)

    def _journal_finished(self, event: str, planned: PlannedStep, artifact: Artifact) -> None:
        self.journal.append(
            event,
            session=self.session,
            id=planned.step.id,
            uses=planned.step.uses,
            fingerprint=artifact.fingerprint,
            type=artifact.type,
            digest=artifact.digest,
            path=_inside(artifact.path, self.spec.root),
            ingredients=dict(planned.ingredients),
        )


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
