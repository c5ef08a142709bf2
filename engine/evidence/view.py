"""Run record -> view: every field that a template can name, computed from the record and its artifacts.

The view has plain dictionaries, lists, text and numbers. A field that does not apply is None, with its
reason under ``not_applicable``; a missing one raises EvidenceIncomplete (exit 4), which
names the step that should have made it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.artifacts.journal import RunRecord, StepRecord
from engine.canonical import JsonMapping, JsonObject
from engine.errors import EvidenceIncomplete
from engine.scoring import result_summary_text

SCHEMA_VERSION = 1  # of manifest and summary
RECORD_VERSION = 3  # 1: without the names and digests of the templates; 2: without the sessions
Read = Callable[[StepRecord, str], bytes]
NO_TUNING = "no tuning job: the run-spec declares every hyper-parameter"
NOT_ON_KAGGLE = "not run on Kaggle"
UNKNOWN_ON_KAGGLE = "a Kaggle kernel cannot read this itself, and {} was not set"
NO_CHECKOUT = "the project is not a git checkout"
UNKNOWN_CHANGES = "git could not say whether files were changed"
NO_REVISION = "the weights do not come from a hub"
ON_KAGGLE = "the weights come from Kaggle, where versions have numbers: model_kaggle"


def make_view(record: RunRecord, read: Read | None = None) -> JsonObject:
    """The names that templates can use, with their values. Raises EvidenceIncomplete E101.

    ``read``: a step's file of this name; by default from the store, where the run published it.
    """
    needed = _Needed(record, read or record.read)
    summary, card = needed.summary(), needed.json("score", "scorecard.json", "the scorecard")
    train, score_step = needed.step("train_sft", "final_loss"), needed.step("score", "primary_score")
    reasons: dict[str, str] = dict.fromkeys(("tuning_job_id", "trial_id"), NO_TUNING)
    kaggle = _kaggle(record, reasons)
    commit, dirty = record.environment.get("commit_sha"), record.environment.get("commit_dirty")
    if commit is None:
        reasons["commit_sha"] = record.environment.get("commit_unknown", NO_CHECKOUT)
    elif dirty is None:
        reasons["commit_dirty"] = record.environment.get("commit_unknown", UNKNOWN_CHANGES)
    model_kaggle = train.artifact.facts.get("model_kaggle")
    if record.model_revision is None:
        reasons["model_revision"] = NO_REVISION if model_kaggle is None else ON_KAGGLE
    metric = str(card["metric"])
    return {
        "schema_version": SCHEMA_VERSION,
        "run_version": record.run_version,
        "model_id": record.model_id,
        "model_revision": record.model_revision,
        "model_revision_declared": record.model_revision_declared,
        "model_kaggle": dict(model_kaggle) if model_kaggle is not None else None,
        "model_sha256": needed.fact(train, "model_sha256"),
        "dataset": record.dataset,
        "eval_set": record.eval_set,
        "config_path": record.spec_path,
        "spec_sha256": record.spec_digest,
        "overrides": dict(record.overrides),
        "command": record.command,
        "commit_sha": commit,
        "commit_dirty": dirty,
        "diff_sha256": record.environment.get("diff_sha256"),
        "timestamp": record.started_at,
        "finished_at": record.finished_at,
        "evaluated_at": score_step.artifact.finished_at,
        "tuning_job_id": None,
        "trial_id": None,
        **kaggle,
        "notes": record.notes,
        "device": record.device,
        "environment": _environment(record),
        "steps": [_step(step) for step in record.steps],
        "metric": metric,
        "metrics": {metric.split("@", maxsplit=1)[0]: card["primary_score"], "final_loss": summary["final_loss"]},
        "primary_score": card["primary_score"],
        "final_loss": summary["final_loss"],
        "scorecard": {key: value for key, value in card.items() if key not in ("metric", "primary_score")},
        "predictions_path": "predictions.jsonl",
        "result_summary": result_summary_text(summary),
        "train": dict(train.artifact.facts),
        "log": _log(record, train, needed.jsonl("train_sft", "metrics.jsonl", "the metrics")),
        "not_applicable": reasons,
    }


class _Needed:
    """Reads required values; an error names the step that should have made a missing one."""

    def __init__(self, record: RunRecord, read: Read) -> None:
        self.record, self.read = record, read

    def step(self, kind: str, field: str) -> StepRecord:
        """The step of a kind."""
        step = self.record.step_of(kind)
        if step is None:
            raise EvidenceIncomplete(
                "E101",
                f"the evidence needs {field}, and the run has no {kind} step to make it",
                hint=f"add a step to the run-spec: {{id: {kind.split('_', maxsplit=1)[0]}, uses: {kind}}}",
            )
        return step

    def fact(self, step: StepRecord, name: str) -> Any:
        """A fact that must have a value."""
        value = step.artifact.facts.get(name)
        if value is None:
            raise EvidenceIncomplete(
                "E101",
                f'the evidence needs {name}, and step "{step.id}" ({step.uses}) did not make it',
                hint=f"run it again: --force {step.id}",
            )
        return value

    def json(self, kind: str, name: str, field: str) -> JsonObject:
        """A JSON file of a step's artifact."""
        (value,) = self._rows(kind, name, field, lambda text: [text])
        return value

    def jsonl(self, kind: str, name: str, field: str) -> list[JsonObject]:
        """The objects of a JSONL file of a step's artifact."""
        return self._rows(kind, name, field, lambda text: [line for line in text.split("\n") if line])

    def _rows(self, kind: str, name: str, field: str, split: Callable[[str], list[str]]) -> list[JsonObject]:
        """Raises RunFailed R105 where the file is not what the step published, E101 where it never was of this form."""
        step = self.step(kind, field)
        try:
            rows = [json.loads(text) for text in split(self.read(step, name).decode("utf-8"))]
        except (KeyError, ValueError) as error:
            raise self._malformed(step, name, field, str(error)) from error
        if not all(isinstance(row, dict) for row in rows):
            raise self._malformed(step, name, field, "not a JSON object")
        return rows

    @staticmethod
    def _malformed(step: StepRecord, name: str, field: str, reason: str) -> EvidenceIncomplete:
        return EvidenceIncomplete(
            "E101",
            f'the evidence needs {field}, and step "{step.id}" ({step.uses}) did not leave it in {name}: {reason}',
            hint=f"run it again: --force {step.id}",
        )

    def summary(self) -> JsonObject:
        """The summary, complete."""
        summary = self.json("result_summary", "summary.json", "the RESULT SUMMARY")
        for name in ("primary_score", "final_loss", "n_items", "n_scored"):
            if summary.get(name) is None:
                maker = "train_sft" if name == "final_loss" else "score"
                raise EvidenceIncomplete("E101", f"the summary has no {name}, which the {maker} step should have made")
        return summary


def _kaggle(record: RunRecord, reasons: dict[str, str]) -> JsonObject:
    """The three fields of the runbook, each with a value or a reason."""
    facts = record.kaggle
    fields = {}
    for name in ("notebook_url", "notebook_version", "run_id"):
        value = facts.get(name) if facts else None
        fields[f"kaggle_{name}"] = value
        if value is None:
            variable = f"RUNSPEC_KAGGLE_{name.upper()}"
            reasons[f"kaggle_{name}"] = UNKNOWN_ON_KAGGLE.format(variable) if facts else NOT_ON_KAGGLE
    return fields


def _environment(record: RunRecord) -> JsonObject:
    names = ("engine", "python", "implementation", "platform", "cpu_count", "libraries")
    return {name: record.environment[name] for name in names if name in record.environment}


def _step(step: StepRecord) -> JsonObject:
    artifact = step.artifact
    return {
        "id": step.id,
        "uses": step.uses,
        "with": dict(step.args),
        "artifact": artifact.type,
        "fingerprint": artifact.fingerprint,
        "content_sha256": artifact.digest,
        "started_at": artifact.started_at,
        "finished_at": artifact.finished_at,
    }


def _log(record: RunRecord, train: StepRecord, rows: Sequence[JsonMapping]) -> JsonObject:
    """The values of the log: facts of each phase, and every nth row of the metrics (log_every_steps)."""
    every, last = int(train.args.get("log_every_steps", 10)), len(rows)
    samples = [
        row for row in rows if row["train_step"] in (1, last) or row["train_step"] % every == 0 or "eval_loss" in row
    ]
    facts = {
        kind: dict(step.artifact.facts) if (step := record.step_of(kind)) else None
        for kind in ("build_dataset", "smoke_run", "generate", "score")
    }
    return {
        **facts,
        "num_train_steps": last,
        "samples": samples,
        "warnings": _warnings(facts, train.artifact.facts)
        + clock_warnings(record.environment, {step.id: step.artifact.facts for step in record.steps}),
    }


def _warnings(facts: JsonMapping, train: JsonMapping) -> list[str]:
    """What a reader of the results should know before trusting them."""
    dataset, warnings = facts["build_dataset"] or {}, []
    if dataset.get("n_overlap"):
        warnings.append(f"{dataset['n_overlap']} training rows asked what the eval set asks")
    for name, words in (("n_duplicates", "rows repeat an earlier prompt"), ("n_dropped", "rows were dropped")):
        if dataset.get(name):
            warnings.append(f"{dataset[name]} {words}")
    if train.get("n_skipped_steps"):
        warnings.append(f"{train['n_skipped_steps']} train steps had a non-finite loss or gradient and changed nothing")
    if train.get("n_non_finite_evals"):
        warnings.append(f"{train['n_non_finite_evals']} eval losses were not finite; none of them counts as best")
    for name, words in (("n_dropped", "dropped"), ("n_truncated", "truncated"), ("n_split", "split into pieces")):
        if train.get(name):
            warnings.append(f"{train[name]} rows longer than seq_len were {words}")
    if repeated := (facts["score"] or {}).get("n_repeated_items"):
        verb = "is not asked again" if facts["score"]["on_duplicate_item"] == "drop" else "counts each time"
        warnings.append(f"{repeated} items of the eval set repeat an earlier question, which {verb}")
    if (facts["score"] or {}).get("n_skipped"):
        warnings.append(f"{facts['score']['n_skipped']} items have no prediction and count 0")
    return warnings


def clock_warnings(environment: JsonMapping, facts: Mapping[str, JsonMapping]) -> list[str]:
    """What is known against the times in the record: of the session that published last, and of each step (id -> its facts)."""
    remarks = [environment.get("clock")] + [
        step.get("clock") and f"step {id_}: {step['clock']}" for id_, step in facts.items()
    ]
    return [str(remark) for remark in remarks if remark]


Templates = Mapping[str, Mapping[str, str]]  # rendered file -> the templates that it was made from -> their SHA-256


def record_dump(record: RunRecord, templates: Templates | None = None) -> JsonObject:
    """The record as JSON, without this machine's paths. Without templates it is that of version 1."""
    version: JsonObject = {"schema_version": 1}
    if templates is not None:
        version = {"schema_version": 2 if record.sessions is None else RECORD_VERSION, "templates": templates}
    names = (
        "run_version",
        "notes",
        "spec_path",
        "spec_digest",
        "command",
        "model_id",
        "model_revision",
        "model_revision_declared",
        "dataset",
        "eval_set",
        "device",
        "started_at",
        "finished_at",
    )
    return {
        **version,
        **{name: getattr(record, name) for name in names},
        "overrides": dict(record.overrides),
        "environment": dict(record.environment),
        **({} if record.sessions is None else {"sessions": [dict(row) for row in record.sessions]}),
        "steps": [
            {
                **_step(step),
                "declared": dict(step.declared),
                "facts": dict(step.artifact.facts),
                "files": dict(step.artifact.files),
                "ingredients": dict(step.artifact.ingredients),
            }
            for step in record.steps
        ],
    }
