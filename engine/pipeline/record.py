"""Spec + artifacts + journal -> :class:`engine.artifacts.journal.RunRecord`.

The same published steps always give the same record: a later run that does nothing adds nothing to it. Times are
those of the artifacts; command and environment are those of the session that published last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.artifacts.journal import Journal, RunRecord, StepRecord, damaged_journal
from engine.artifacts.store import Artifact
from engine.canonical import digest_bytes, readable, shell_words
from engine.errors import RunFailed
from engine.pipeline.plan import relative
from engine.pipeline.section_digests import unreadable
from engine.pipeline.session.ending import without_options
from engine.pipeline.session.rows import record_sessions
from engine.runspec.model import Spec


def make_record(spec: Spec, made: Mapping[str, Artifact], journal: Journal) -> RunRecord:
    """The record of a run whose steps are all published (``made``: step id -> artifact)."""
    session = _session_of_record(spec, made, journal)
    steps = tuple(
        StepRecord(step.id, step.uses, dict(step.args), dict(step.declared), made[step.id]) for step in spec.steps
    )
    return RunRecord(
        run_version=spec.run_version,
        notes=spec.notes,
        spec_path=readable(relative(spec.path, spec.root)),
        spec_bytes=spec.data,
        spec_digest=spec.digest,
        overrides=_overrides(spec),
        command=_command(spec, session),
        model_id=spec.model.id,
        model_revision=_model_revision(spec, steps),
        model_revision_declared=spec.model.revision,
        dataset=spec.dataset.label,
        eval_set=spec.eval_set,
        eval_set_bytes=_eval_set(spec, steps),
        device=spec.device,
        environment=session["environment"],
        started_at=min(step.artifact.started_at for step in steps),
        finished_at=max(step.artifact.finished_at for step in steps),
        steps=steps,
        sessions=record_sessions(journal.events, made),
    )


def _overrides(spec: Spec) -> dict[str, Any]:
    return {override.path: override.value for override in spec.overrides}


def _command(spec: Spec, session: Mapping[str, Any]) -> str:
    """What was typed where steps ran last. Where no step depends on other overrides that are there now: what gives those."""
    if session["overrides"] == _overrides(spec):
        return without_options(str(session["command"]))
    return shell_words(
        ["runspec", "run", relative(spec.path, spec.root), *(override.text for override in spec.overrides)]
    )


def _eval_set(spec: Spec, steps: tuple[StepRecord, ...]) -> bytes:
    """The eval set that the steps read. Raises InputInvalid R107, RunFailed X312 where it is another one by now."""
    path = spec.resolve(spec.eval_set)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    for step in steps:
        recorded = step.artifact.ingredients["spec"].get("eval_set", digest_bytes(data))
        # engine.pipeline.section_digests: the file's digest, or a mapping that has it as its content
        if (recorded if isinstance(recorded, str) else recorded["content"]) != digest_bytes(data):
            raise RunFailed(
                "X312",
                f'{spec.eval_set} was changed after step "{step.id}" ({step.uses}) had read it',
                hint="run again: the steps that read it are done again, all others are kept",
            )
    return data


def _session_of_record(spec: Spec, made: Mapping[str, Artifact], journal: Journal) -> Mapping[str, Any]:
    """The ``run_started`` event of the session that was the last to publish (or reuse) one of these artifacts. Raises R111."""
    fingerprints = {made[step.id].fingerprint for step in spec.steps}
    for event in reversed(journal.events):
        if event["event"] in ("step_finished", "step_reused") and event["fingerprint"] in fingerprints:
            started = journal.last("run_started", session=event["session"])
            if started is not None:
                return started
    raise damaged_journal(journal.path, "it has no session for the published steps")  # a run always starts one


def _model_revision(spec: Spec, steps: tuple[StepRecord, ...]) -> str | None:
    """The commit that the trainer resolved the revision to; without one, the declared revision."""
    for step in reversed(steps):
        commit = step.artifact.facts.get("model_commit")
        if commit:
            return str(commit)
    return spec.model.revision
