"""The part of a run that a reader runs again.

In: evidence that verifies otherwise, and a :class:`engine.pipeline.rerun.request.Request`. Out: :class:`engine.evidence.checks.rerun.Rerun`, with which ``verify`` judges (V29,
V30). Answers are generated from the model of the recorded digest, with the recorded arguments, by the step's own handler, for the
items that the seed draws: an answer does not depend on the others (engine.trainer.generation.sampler). Train steps begin with the
first, from the recorded base and rows. Raises what the steps raise, InputInvalid where something is not here, Interrupted U161.

    rerun = run_again(evidence, Request(n_items=5, seed=7), [Path.cwd()], handlers(), console)
    verify_bundle(bundle, archive, replace(reader, rerun=rerun))
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.artifacts.journal import RunRecord, StepRecord
from engine.artifacts.store import Artifact
from engine.canonical import JsonObject, jsonl_bytes, write_atomic
from engine.data import read_eval_set
from engine.errors import Interrupted, RunFailed
from engine.evidence.checks.declared import kinds_of, typed_overrides
from engine.evidence.checks.recorded import recorded_run
from engine.evidence.checks.rerun import Again, Rerun, draw
from engine.evidence.contents import Evidence
from engine.pipeline.rerun import machine, material
from engine.pipeline.rerun.request import Request
from engine.pipeline.rerun.workshop import Workshop
from engine.pipeline.runner import RunDisplay
from engine.pipeline.stop import stop_on_signals
from engine.runspec import load_recorded
from engine.runspec.model import Spec
from engine.steps import Handler
from engine.temporary import working_folder

# Arguments that change no result, and would reach beyond this machine or be of no use here.
LOCAL: Mapping[str, Any] = {"report_to": (), "profile": None, "cluster": "none"}


def run_again(
    evidence: Evidence, request: Request, projects: Sequence[Path], kinds: Mapping[str, Handler], console: RunDisplay
) -> Rerun:
    """``projects``: where model and data may be; the first one's paths are those of the run-spec."""
    record = recorded_run(evidence)

    def stopping(_: str) -> None:
        console.note("stopping: nothing of the re-run is kept (a second signal or Ctrl-C stops at once)")

    with working_folder("runspec-rerun-") as folder, stop_on_signals(stopping) as stop:
        spec = _spec(evidence, record, projects[0] if projects else folder)
        total = (request.n_items is not None) + (request.n_steps is not None)
        workshop = Workshop(spec, kinds, folder, stop, console, total)
        try:
            answers = None if request.n_items is None else _answers(evidence, record, request, projects, workshop)
            losses = None if request.n_steps is None else _losses(evidence, record, request.n_steps, projects, workshop)
        except Interrupted as error:
            raise Interrupted(
                "U161", "the re-run was stopped: nothing of it is kept, and nothing was changed", hint="type it again"
            ) from error
    return Rerun(request.seed, machine.in_words(workshop.platform), answers, losses)


def _spec(evidence: Evidence, record: RunRecord, root: Path) -> Spec:
    """The recorded run-spec, with the recorded arguments and model commit, for this project."""
    kinds = kinds_of(evidence.record)
    spec = load_recorded(record.spec_bytes, "runspec.yaml", typed_overrides(record.command), kinds=kinds)
    recorded = {step.id: step.args for step in record.steps}
    steps = tuple(replace(step, args=_local({**step.args, **recorded[step.id]})) for step in spec.steps)
    revision = record.model_revision if spec.model.path is None else spec.model.revision
    model = replace(spec.model, revision=revision)
    device: Any = "cpu" if _platform(record) == "cpu" else "auto"
    return replace(spec, root=root, steps=steps, model=model, device=device)


def _local(args: Mapping[str, Any]) -> dict[str, Any]:
    return {**args, **{name: value for name, value in LOCAL.items() if name in args}}


def _platform(record: RunRecord) -> str:
    return str(_last(record, "generate").artifact.facts["platform"])


def _last(record: RunRecord, kind: str) -> StepRecord:
    step = record.step_of(kind)
    assert step is not None  # the evidence verifies
    return step


def _answers(
    evidence: Evidence, record: RunRecord, request: Request, projects: Sequence[Path], workshop: Workshop
) -> Again:
    """The drawn items, answered again."""
    step = _last(record, "generate")
    model = material.checkpoint(record, step, projects, request.checkpoint, workshop.folder)
    assert request.n_items is not None
    drawn = draw([row["id"] for row in evidence.rows("predictions.jsonl")], request.seed, request.n_items)
    workshop.console.note(f"seed {request.seed}: {len(drawn)} of {len(evidence.rows('predictions.jsonl'))} items")
    workshop.ask(_questions(evidence, workshop, drawn))
    facts, out = workshop.do(step.id, {model.type: model})
    if facts["platform"] != "cpu":
        facts = {**facts, "device_kind": workshop.device_kind()}
    if facts["model_sha256"] != model.facts["model_sha256"]:
        raise RunFailed("U162", "the model was changed while answers were generated from it", hint="type it again")
    rows = {row["id"]: row for row in _rows(out / "predictions_raw.jsonl")}
    return Again([rows[id_] for id_ in drawn], machine.elsewhere(record, step, workshop.handler(step.id), facts))


def _questions(evidence: Evidence, workshop: Workshop, ids: Sequence[str]) -> Path:
    """An eval set of these items."""
    complete, some = workshop.folder / "eval_set.jsonl", workshop.folder / "drawn.jsonl"
    write_atomic(complete, evidence.data("eval_set.jsonl"))
    items = read_eval_set(complete, on_duplicate=workshop.spec.on_duplicate_item)
    write_atomic(some, jsonl_bytes(item.as_json() for item in items if item.id in ids))
    return some


def _losses(evidence: Evidence, record: RunRecord, n_steps: int, projects: Sequence[Path], workshop: Workshop) -> Again:
    """The first train steps again. The last of them must have a loss: one that was skipped ends no training run (T131)."""
    step = _last(record, "train_sft")
    ends = [row["train_step"] for row in evidence.metrics[:n_steps] if row["loss"] is not None]
    if not ends:
        return Again([])
    material.check_base(record, step, workshop.spec)
    data = _dataset(evidence, record, step, projects, workshop)
    workshop.ask(_questions(evidence, workshop, [row["id"] for row in evidence.rows("predictions.jsonl")]))
    facts, out = workshop.do(step.id, {data.type: data}, stop_at=ends[-1])
    material.check_kaggle_base(record, step, facts)
    rows = _rows(out / "metrics.jsonl")[: ends[-1]]
    return Again(rows, machine.elsewhere(record, step, workshop.handler(step.id), facts))


def _dataset(
    evidence: Evidence, record: RunRecord, step: StepRecord, projects: Sequence[Path], workshop: Workshop
) -> Artifact:
    """The rows of the recorded digest: from a store, else built again."""
    maker = material.maker_of(record, step, "dataset")
    stored = material.stored_rows(maker, projects)
    if stored is not None:
        return stored
    material.check_builder(maker)
    workshop.ask(_questions(evidence, workshop, [row["id"] for row in evidence.rows("predictions.jsonl")]))
    _, out = workshop.do(maker.id, {})
    return material.rebuilt_rows(maker, out)


def _rows(path: Path) -> list[JsonObject]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
