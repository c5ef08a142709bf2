"""Spec -> Plan: the steps in order, each to run or to skip and why, by fingerprint.

The fingerprint of a step is the digest of its *ingredients*: kind, version of the kind, effective arguments,
fingerprints and content digests of its inputs, the sections of the spec it reads, the arguments of later steps
it looks ahead to, and library versions that can change its result. Comments, key order, file times and output
paths are not among them.

    plan = make_plan(spec, handlers(), Store(spec.root))
    [(planned.step.id, planned.action, planned.reason) for planned in plan.steps]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.artifacts.store import Artifact, Store
from engine.canonical import digest_json
from engine.errors import Diagnostic, InputInvalid, did_you_mean
from engine.pipeline.section_digests import section_digest
from engine.runspec.keywords import changes_state, only_tracked
from engine.runspec.model import Spec, StepSpec
from engine.steps import Handler

Action = Literal["run", "skip"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of the plan, with all decisions about it.

    ``sources``      artifact type -> the earlier step whose artifact it takes
    ``inputs``       artifact type -> that artifact; empty, and ``fingerprint`` None, while one of them is not made yet
    ``ahead``        kind -> arguments of the later steps that the handler must know
    ``ingredients``  what the fingerprint is made of
    ``artifact``     the artifact published under the fingerprint, if there is one
    ``flaw``         why what is stored under the fingerprint is no artifact, if something is
    """

    step: StepSpec
    handler: Handler
    action: Action
    reason: str
    sources: Mapping[str, StepSpec]
    ahead: Mapping[str, Mapping[str, Any]]
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    fingerprint: str | None = None
    ingredients: Mapping[str, Any] = field(default_factory=dict)
    artifact: Artifact | None = None
    flaw: str | None = None

    @property
    def work_key(self) -> str:
        """The key of an interrupted attempt's ``work``: the fingerprint without the arguments that change no state."""
        known: Mapping[str, Mapping[str, Any]] = self.handler.schema.get("properties", {})
        args = self.ingredients["with"].items()
        binding = {name: value for name, value in args if changes_state(known.get(name, {}))}
        return digest_json({**self.ingredients, "with": binding})


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in run order."""

    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The steps that the command line selects: ``--only``, ``--from``, ``--to``, ``--force``."""

    start: str | None = None
    stop: str | None = None
    only: str | None = None
    force: frozenset[str] = frozenset()

    def check(self, spec: Spec) -> None:
        """Raises InputInvalid (U301) listing every id that the spec does not have."""
        ids = [step.id for step in spec.steps]
        named = {self.start, self.stop, self.only, *self.force} - {None, "all"}
        unknown = sorted(str(name) for name in named if name not in ids)
        if unknown:
            raise InputInvalid.of([_unknown_step(name, ids) for name in unknown])

    def forced(self, step_id: str) -> bool:
        """True where ``--force`` names the step."""
        return step_id in self.force or "all" in self.force

    def covers(self, spec: Spec, step_id: str) -> bool:
        """True where the step is selected."""
        ids = [step.id for step in spec.steps]
        if self.only is not None:
            return step_id == self.only
        first = ids.index(self.start) if self.start else 0
        last = ids.index(self.stop) if self.stop else len(ids) - 1
        return first <= ids.index(step_id) <= last

    @property
    def partial(self) -> bool:
        """True where the run ends before the spec's last step."""
        return self.only is not None or self.stop is not None


def _unknown_step(name: str, ids: list[str]) -> Diagnostic:
    near = did_you_mean(name, ids)
    hint = f'did you mean "{near}"?' if near else f"this spec has: {', '.join(ids)}"
    return Diagnostic("U301", f'the spec has no step "{name}"', hint=hint)


def sources(spec: Spec, step: StepSpec, handlers: Mapping[str, Handler]) -> dict[str, StepSpec]:
    """Artifact type -> the earlier step whose artifact this one takes (``needs`` first, else the nearest)."""
    earlier: list[StepSpec] = []
    for candidate in spec.steps:
        if candidate.id == step.id:
            break
        earlier.append(candidate)
    if step.needs is not None:
        named = [candidate for candidate in earlier if candidate.id in step.needs]
        earlier = [candidate for candidate in earlier if candidate.id not in step.needs] + named
    made = {handlers[candidate.uses].makes: candidate for candidate in earlier}  # the last one of a type wins
    return {type_: made[type_] for type_ in handlers[step.uses].takes}


def arguments_ahead(spec: Spec, step: StepSpec, handlers: Mapping[str, Handler]) -> dict[str, Mapping[str, Any]]:
    """Kind -> effective arguments of the first later step of each kind the handler looks ahead to.

    Arguments that only affect tracking are left out: they prove nothing.
    """
    ids = [candidate.id for candidate in spec.steps]
    later = spec.steps[ids.index(step.id) + 1 :]
    ahead: dict[str, Mapping[str, Any]] = {}
    for candidate in later:
        if candidate.uses in handlers[step.uses].looks_ahead:
            ahead.setdefault(candidate.uses, without_tracking(candidate.args, handlers[candidate.uses].schema))
    return ahead


def step_ingredients(
    spec: Spec,
    step: StepSpec,
    handler: Handler,
    inputs: Mapping[str, Artifact],
    ahead: Mapping[str, Mapping[str, Any]],
    store: Store,
) -> dict[str, Any]:
    """Everything that can change the step's result, as one JSON value."""
    return {
        "kind": handler.kind,
        "version": handler.version,
        "with": without_tracking(step.args, handler.schema),
        "inputs": {
            type_: {"fingerprint": artifact.fingerprint, "content": artifact.digest}
            for type_, artifact in sorted(inputs.items())
        },
        "spec": {section: section_digest(spec, section, store) for section in handler.reads},
        "ahead": {kind: dict(args) for kind, args in sorted(ahead.items())},
        "environment": dict(handler.environment()),
    }


def without_tracking(args: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that can change a result: those that only affect tracking, says the schema, are left out."""
    known = schema.get("properties", {})
    return {name: value for name, value in args.items() if not only_tracked(known.get(name, {}))}


def make_plan(spec: Spec, handlers: Mapping[str, Handler], store: Store, selection: Selection | None = None) -> Plan:
    """Decide for every step. Reads manifests and digests only; writes nothing."""
    selection = selection or Selection()
    selection.check(spec)
    made: dict[str, Artifact] = {}
    planned = []
    for step in spec.steps:
        entry = plan_step(spec, step, handlers, store, made, selection)
        if entry.artifact is not None and entry.action == "skip":
            made[step.id] = entry.artifact
        planned.append(entry)
    return Plan(tuple(planned))


def plan_step(
    spec: Spec,
    step: StepSpec,
    handlers: Mapping[str, Handler],
    store: Store,
    made: Mapping[str, Artifact],
    selection: Selection,
) -> PlannedStep:
    """Decide for one step, given the artifacts of the steps before it (by step id)."""
    handler = handlers[step.uses]
    takes, ahead = sources(spec, step, handlers), arguments_ahead(spec, step, handlers)
    missing = [source.id for source in takes.values() if source.id not in made]
    covered = selection.covers(spec, step.id)
    if missing:
        reason = f"{_listed(missing)} will be made first" if covered else "not selected"
        return PlannedStep(step, handler, "run" if covered else "skip", reason, takes, ahead)
    inputs = {type_: made[source.id] for type_, source in takes.items()}
    ingredients = step_ingredients(spec, step, handler, inputs, ahead, store)
    fingerprint = digest_json(ingredients)
    artifact = store.find(handler.makes, fingerprint)
    flaw = None if artifact is not None else store.flaw(handler.makes, fingerprint)
    action, reason = _decide(covered, selection.forced(step.id), artifact, flaw)
    return PlannedStep(
        step, handler, action, reason, takes, ahead, inputs, fingerprint=fingerprint, ingredients=ingredients,
        artifact=artifact, flaw=flaw,
    )  # fmt: skip


def _decide(covered: bool, forced: bool, artifact: Artifact | None, flaw: str | None) -> tuple[Action, str]:
    if not covered:
        return "skip", "not selected" + ("" if artifact else " (and not made yet)")
    if forced:
        return "run", "forced"
    if flaw is not None:
        return "run", f"what is stored of it is damaged: {flaw}"
    if artifact is None:
        return "run", "not made yet, or something it depends on has changed"
    return "skip", f"made {artifact.finished_at}, nothing it depends on has changed"


def _listed(ids: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in ids)


def differences(before: object, after: object, path: str = "") -> list[str]:
    """The dotted paths at which two ingredient values differ, each with both values.

    >>> differences({"with": {"seed": 42}}, {"with": {"seed": 43}})
    ['with.seed: 42 -> 43']
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        changes = []
        for key in sorted({*before, *after}):
            key_path = f"{path}.{key}" if path else str(key)
            if key not in before:
                changes.append(f"{key_path}: added, {_short(after[key])}")
            elif key not in after:
                changes.append(f"{key_path}: removed, was {_short(before[key])}")
            else:
                changes += differences(before[key], after[key], key_path)
        return changes
    return [] if before == after else [f"{path}: {_short(before)} -> {_short(after)}"]


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # a SHA-256 is too long to read


def explain(planned: PlannedStep, previous: Mapping[str, object] | None) -> list[str]:
    """Why the step runs or is skipped: one line each, naming every ingredient that changed.

    ``previous`` are the ingredients of the step's last finished run (from the journal), or None.
    """
    lines = [f"{planned.step.id} ({planned.step.uses}): {planned.action}: {planned.reason}"]
    if planned.action == "skip" or planned.fingerprint is None:
        return lines
    if previous is None:
        return [*lines, "  it has not run before under this run_version"]
    changed = differences(previous, planned.ingredients)
    return lines + [f"  changed: {change}" for change in changed or ["nothing; its artifact is missing or damaged"]]


def relative(path: Path, root: Path) -> str:
    """A path for messages: relative to the project if it is inside it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
