"""Spec + artifacts + journal -> :class:`engine.artifacts.journal.RunRecord`.

The same published steps always give the same record: a later run that does nothing adds nothing to it. Times are
those of the artifacts; command and environment are those of the session that published last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.artifacts.journal import Journal, RunRecord, StepRecord, damaged_journal
from engine.artifacts.store import Artifact
from engine.pipeline.plan import relative
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
        spec_path=relative(spec.path, spec.root),
        spec_text=spec.text,
        spec_digest=spec.digest,
        overrides={override.path: override.value for override in spec.overrides},
        command=session["command"],
        model_id=spec.model.id,
        model_revision=_model_revision(spec, steps),
        model_revision_declared=spec.model.revision,
        dataset=spec.dataset.label,
        eval_set=spec.eval_set,
        eval_set_text=spec.resolve(spec.eval_set).read_text(encoding="utf-8"),
        device=spec.device,
        environment=session["environment"],
        started_at=min(step.artifact.started_at for step in steps),
        finished_at=max(step.artifact.finished_at for step in steps),
        steps=steps,
    )


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
