"""The jobs of the trainer's process (engine.protocol.jobs), made from the spec.

The trainer never sees the spec; a job has paths, hyper-parameters and a device, nothing else. Used by
``train_sft``, ``generate`` and ``smoke_run``, so that the smoke run proves the full run's own job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.canonical import digest_text, jsonl_bytes, write_atomic
from engine.data import EvalItem, prompt_messages, read_eval_set, render_prompt
from engine.protocol.deadline import Deadline
from engine.protocol.device_memory import Allocator
from engine.protocol.jobs import (
    Cluster,
    FetchJob,
    GenerateJob,
    ModelSource,
    Questions,
    TrainJob,
    generate_args,
    train_args,
)
from engine.protocol.sessions import RunSession
from engine.runspec.model import ModelSpec, Spec, StepSpec


def model_source(model: ModelSpec, root: Path) -> ModelSource:
    """Where the weights come from, or what to initialise."""
    return ModelSource(
        init=model.init,
        id=model.id,
        revision=model.revision,
        path=str(root / model.path) if model.path else None,
        config=dict(model.config) if model.config else None,
        tokenizer=model.tokenizer,
        kaggle=model.kaggle,
    )


def allocator_of(spec: Spec) -> Allocator | None:
    """The run-spec's ``allocator``; None leaves it to JAX."""
    return Allocator(**spec.allocator) if spec.allocator else None


def train_job(
    spec: Spec,
    args: Mapping[str, Any],
    *,
    dataset: Path,
    render: str,
    work: Path,
    out: Path,
    cache: Path,
    questions: Questions | None = None,
    reports: Path | None = None,
    cluster: Cluster | None = None,
    stop_at: int | None = None,
    session: RunSession | None = None,
    deadline: Deadline | None = None,
) -> TrainJob:
    """The job of training by this spec. Raises InputInvalid T115 for arguments that the trainer does not know.

    ``questions``: from :func:`questions_after`. ``reports``: where loggers keep their files, outside the artifact. ``cluster``: of
    engine.trainer_process.cluster; None: a single process. ``stop_at``: the last train step of a shorter run.
    """
    return TrainJob(
        model=model_source(spec.model, spec.root),
        rows=str(dataset / "rows.jsonl"),
        render=render,
        work=str(work),
        out=str(out),
        cache=str(cache),
        questions=questions,
        reports=str(reports) if reports else None,
        run_name=spec.run_version,
        device=spec.device,
        allocator=allocator_of(spec),
        cluster=cluster,
        stop_at=stop_at,
        session=session,
        deadline=deadline,
        args=train_args(args),
    )


def questions_after(spec: Spec, step: StepSpec, *, render: str, work: Path) -> Questions | None:
    """The prompts that the first ``generate`` step after ``step`` will give to the trained model, written into ``work``.

    The trainer refuses prompts that are too long (M501) before its first train step instead of after the last. It uses
    them for nothing else, so that another ``max_new_tokens`` does not make another training run.
    """
    later = spec.steps[spec.steps.index(step) + 1 :]
    generate = next((candidate for candidate in later if candidate.uses == "generate"), None)
    if generate is None:
        return None
    prompts = work / "questions.jsonl"
    items = read_eval_set(spec.resolve(spec.eval_set), on_duplicate=spec.on_duplicate_item)
    write_prompts(prompts, items, render)
    return Questions(str(prompts), generate.args["max_new_tokens"])


def fetch_job(spec: Spec, any_of: Sequence[str]) -> FetchJob:
    """Fetch the first of these files that the dataset has."""
    assert spec.dataset.hub is not None
    return FetchJob(spec.dataset.hub, spec.dataset.revision, tuple(any_of))


def generate_job(
    spec: Spec,
    args: Mapping[str, Any],
    *,
    model_dir: Path,
    prompts: Path,
    out: Path,
    work: Path,
    cache: Path,
    deadline: Deadline | None = None,
) -> GenerateJob:
    """The job of answering these prompts."""
    return GenerateJob(
        model=model_source(spec.model, spec.root),  # the base, where model_dir holds adapters only
        model_dir=str(model_dir),
        prompts=str(prompts),
        out=str(out / "predictions_raw.jsonl"),
        report=str(out / "generate_report.json"),
        work=str(work),
        cache=str(cache),
        device=spec.device,
        allocator=allocator_of(spec),
        deadline=deadline,
        args=generate_args(args),
    )


def write_prompts(path: Path, items: Iterable[EvalItem], render: str) -> dict[str, str]:
    """Write ``{id, prompt, messages?}`` rows, rendered as the training rows were. Returns id -> prompt digest."""
    rows: list[dict[str, Any]] = []
    for item in items:
        messages = [message.as_json() for message in prompt_messages(render, item.prompt)]
        row = {"id": item.id, "prompt": render_prompt(render, item.prompt)}
        rows.append(row | {"messages": messages} if messages else row)
    write_atomic(path, jsonl_bytes(rows))
    return {row["id"]: digest_text(row["prompt"]) for row in rows}
