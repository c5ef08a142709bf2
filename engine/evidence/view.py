"""RunRecord -> the plain values that templates may name. Every one is computed; nobody types a number.

What goes in: a finished run. What comes out: a :class:`View`: ``fields`` (name -> JSON value, all that the
three files of the runbook need, and more), and ``missing`` (name -> which step should have made it). A field
that does not apply is None in ``fields`` with its reason under ``fields["not_applicable"]``. Which field comes
from where is the table of docs/evidence.md.

    >>> sorted(KIND_OF_TYPE)[:2]
    ['checkpoint', 'dataset']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.canonical import digest_text
from engine.evidence.artifacts import artifact_of, read_json, read_jsonl, step_making
from engine.evidence.warning_lines import warning_lines
from engine.record import RunRecord, StepRecord
from engine.scoring import METRICS, result_summary_text

# artifact type -> the built-in kind of step that makes it: what an error tells a person to add.
KIND_OF_TYPE: Mapping[str, str] = {
    "dataset": "build_dataset",
    "checkpoint": "train_sft",
    "predictions": "generate",
    "scorecard": "score",
    "smoke_report": "smoke_run",
    "summary": "result_summary",
}

# field -> (artifact type, fact). All of these must have a value.
FROM_FACTS: Mapping[str, tuple[str, str]] = {
    "dataset_rows": ("dataset", "n_rows"),
    "dataset_sha256": ("dataset", "rows_sha256"),
    "dataset_manifest_sha256": ("dataset", "manifest_sha256"),
    "dataset_duplicates": ("dataset", "n_duplicates"),
    "dataset_overlap": ("dataset", "n_overlap"),
    "dataset_dropped": ("dataset", "n_dropped"),
    "render": ("dataset", "render"),
    "final_loss": ("checkpoint", "final_loss"),
    "num_train_steps": ("checkpoint", "num_train_steps"),
    "tokens_trained": ("checkpoint", "tokens_trained"),
    "params": ("checkpoint", "params"),
    "param_dtype": ("checkpoint", "param_dtype"),
    "compute_dtype": ("checkpoint", "compute_dtype"),
    "devices": ("checkpoint", "devices"),
    "accelerator": ("checkpoint", "platform"),
    "device_kind": ("checkpoint", "device_kind"),
    "libraries": ("checkpoint", "libraries"),
    "seq_len": ("checkpoint", "seq_len"),
    "training_tokens_per_second": ("checkpoint", "tokens_per_second"),
    "model_sha256": ("checkpoint", "model_sha256"),
    "generated_tokens": ("predictions", "new_tokens"),
    "generation_tokens_per_second": ("predictions", "tokens_per_second"),
    "generation_model_sha256": ("predictions", "model_sha256"),
}
NO_KAGGLE = "not run on Kaggle"
NO_GIT = "not a git checkout"
NO_TUNING = "no tuning"


@dataclass(frozen=True, slots=True)
class View:
    """``missing`` maps a field to half a sentence: which step should have made it, and what it did not do."""

    fields: Mapping[str, Any]
    missing: Mapping[str, str]


@dataclass(slots=True)
class _Builder:
    """Collects fields, reasons and gaps while the view is built."""

    record: RunRecord
    fields: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def optional(self, name: str, value: Any, reason: str) -> None:
        """A field that may have no value, and then has this reason."""
        self.fields[name] = plain(value)
        if value is None:
            self.reasons[name] = reason

    def gap(self, name: str, type_: str, what: str) -> None:
        """A field that must have a value and has none."""
        step = step_making(self.record, type_)
        kind = KIND_OF_TYPE[type_]
        self.missing[name] = (
            f'it is made by a step of kind "{kind}", and this run has none (step kind {kind})'
            if step is None
            else f'step "{step.id}" of kind "{step.uses}" should have made it, but {what}'
        )


def build_view(record: RunRecord) -> View:
    """Every field that can be computed from the record and the artifacts it names."""
    builder = _Builder(record)
    for add in (_run, _model, _checkout, _kaggle, _facts, _training, _smoke, _scores):
        add(builder)
    builder.fields["steps"] = [_step_row(step) for step in record.steps]
    builder.fields["warnings"] = warning_lines(record, builder.fields)
    _summary(builder)
    builder.fields["not_applicable"] = builder.reasons
    return View(fields=builder.fields, missing=builder.missing)


def plain(value: Any) -> Any:
    """The value as dict, list, str, int, float, bool or None, all of them new: a template gets no object."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(child) for child in value]
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _run(builder: _Builder) -> None:
    record = builder.record
    builder.fields.update(
        run_version=record.run_version,
        notes=record.notes,
        config_path=record.spec_path,
        config_sha256=record.spec_digest,
        command=record.command,
        timestamp=record.started_at,
        finished_at=record.finished_at,
        overrides=plain(record.overrides),
        dataset=record.dataset,
        eval_set=record.eval_set,
        eval_set_sha256=digest_text(record.eval_set_text),
        device=record.device,
    )
    for name in ("engine", "python", "platform"):
        value = record.environment.get(name)
        if value is None:
            builder.missing[name] = "the run itself should have recorded it when it started"
        else:
            builder.fields[name] = plain(value)
    builder.optional("tuning_job_id", None, NO_TUNING)
    builder.optional("trial_id", None, NO_TUNING)


def _model(builder: _Builder) -> None:
    checkpoint = artifact_of(builder.record, "checkpoint")
    commit = checkpoint.facts.get("model_commit") if checkpoint else None
    builder.fields["model_id"] = builder.record.model_id
    builder.optional("model_revision", builder.record.model_revision, "the spec declares no revision")
    builder.optional("model_commit", commit, "the weights do not come from a hub")


def _checkout(builder: _Builder) -> None:
    environment = builder.record.environment
    sha = environment.get("commit_sha")
    builder.optional("commit_sha", sha, NO_GIT)
    builder.optional("commit_dirty", environment.get("commit_dirty") if sha else None, NO_GIT)
    clean = "no uncommitted change" if sha else NO_GIT
    builder.optional("diff_sha256", environment.get("diff_sha256") if sha else None, clean)


def _kaggle(builder: _Builder) -> None:
    kaggle = builder.record.environment.get("kaggle")
    for name in ("notebook_url", "notebook_version", "run_id"):
        value = kaggle.get(name) if kaggle else None
        if not kaggle:
            builder.optional(f"kaggle_{name}", None, NO_KAGGLE)
        elif value is None and name != "run_id":
            builder.missing[f"kaggle_{name}"] = (
                f"the notebook that was pushed should have brought it (RUNSPEC_KAGGLE_{name.upper()})"
            )
        else:
            builder.optional(f"kaggle_{name}", None if value is None else str(value), "Kaggle gave none")


def _facts(builder: _Builder) -> None:
    for name, (type_, fact) in FROM_FACTS.items():
        artifact = artifact_of(builder.record, type_)
        value = artifact.facts.get(fact) if artifact else None
        if value is None:
            builder.gap(name, type_, f'its facts have no "{fact}"')
        else:
            builder.fields[name] = plain(value)
    jax = builder.fields.get("libraries", {}).get("jax")
    if jax is None:
        builder.gap("jax_version", "checkpoint", 'its facts have no "libraries.jax"')
    else:
        builder.fields["jax_version"] = jax


def _training(builder: _Builder) -> None:
    """The loss every ten train steps or so, the first and the last; and the eval loss where there is one."""
    step = step_making(builder.record, "checkpoint")
    rows = read_jsonl(step.artifact, "metrics.jsonl") if step else []
    if step is None or not rows:
        builder.gap("losses", "checkpoint", "its metrics.jsonl has no rows")
        builder.gap("final_eval_loss", "checkpoint", "its metrics.jsonl has no rows")
        return
    every = int(step.args.get("log_every_steps") or 10)
    builder.fields["losses"] = [
        plain(row)
        for index, row in enumerate(rows)
        if index in (0, len(rows) - 1) or row["train_step"] % every == 0
    ]
    no_rows = "no rows were withheld for an eval loss (eval_rows: 0)"
    builder.optional("final_eval_loss", step.artifact.facts.get("final_eval_loss"), no_rows)


def _smoke(builder: _Builder) -> None:
    artifact = artifact_of(builder.record, "smoke_report")
    report = {key: plain(artifact.facts.get(key)) for key in _SMOKE_FACTS} if artifact else None
    builder.optional("smoke", report, "no smoke_run step")


_SMOKE_FACTS = ("proved", "not_proved", "num_train_steps", "killed_at", "resumed_from", "score_n_items")


def _scores(builder: _Builder) -> None:
    step = step_making(builder.record, "scorecard")
    names = ("metric", "metric_name", "primary_score", "scorecard", "n_items", "n_scored", "n_skipped",
             "evaluated_at", "predictions_path", "predictions_sha256", "metrics")  # fmt: skip
    card = read_json(step.artifact, "scorecard.json") if step else None
    if step is None or not isinstance(card, dict):
        for name in names:
            builder.gap(name, "scorecard", "its scorecard.json cannot be read")
        return
    fields = builder.fields
    metric = METRICS.get(str(card.get("metric")))
    fields["metric_name"] = metric.name if metric else str(card.get("metric")).partition("@")[0]
    for name in ("metric", "primary_score", "n_items", "n_scored", "n_skipped"):
        if card.get(name) is None:
            builder.gap(name, "scorecard", f'its scorecard.json has no "{name}"')
        else:
            fields[name] = plain(card[name])
    fields["scorecard"] = {key: plain(card[key]) for key in card if key not in ("metric", "primary_score")}
    fields["evaluated_at"] = step.artifact.finished_at
    fields["predictions_path"] = "predictions.jsonl"
    fields["predictions_sha256"] = step.artifact.files.get("predictions.jsonl")
    if "final_loss" in fields and "primary_score" in fields:
        fields["metrics"] = {
            fields["metric_name"]: fields["primary_score"],
            "final_loss": fields["final_loss"],
        }
    else:
        builder.missing["metrics"] = builder.missing.get("final_loss") or builder.missing["primary_score"]


def _summary(builder: _Builder) -> None:
    """The RESULT SUMMARY block, once all its values are known."""
    needed = ("model_id", "dataset", "eval_set", "primary_score", "final_loss", "n_items", "n_scored")
    gaps = [name for name in needed if name in builder.missing]
    if gaps:
        builder.missing["summary_text"] = f'it needs "{gaps[0]}": {builder.missing[gaps[0]]}'
    else:
        builder.fields["summary_text"] = result_summary_text({name: builder.fields[name] for name in needed})


def _step_row(step: StepRecord) -> dict[str, Any]:
    artifact = step.artifact
    return {
        "id": step.id,
        "uses": step.uses,
        "fingerprint": artifact.fingerprint,
        "digest": artifact.digest,
        "started_at": artifact.started_at,
        "finished_at": artifact.finished_at,
    }


def known_fields(view: View) -> list[str]:
    """Every name a template may use."""
    return sorted({*view.fields, *view.missing})
