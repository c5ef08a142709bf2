"""The work of ``smoke_run``: a few train steps of the very job that comes later, killed and resumed, before it takes hours.

In: a dataset artifact, the spec's model and eval set, and the arguments of the later ``train_sft``, ``generate``
and ``score`` steps. Out: a smoke_report artifact that says what was proved, and what was not.

It trains until the first checkpoint; kills the training process (SIGKILL); trains again, which must resume from that
checkpoint; exports; generates for the items with the longest prompts; scores them. ``reduce`` may shrink the job as the
runbook does (bfloat16, batch 1, length 128, Adafactor, on the CPU): then the report says for each
reduction what it no longer proves.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.canonical import jsonl_bytes, pretty_json, write_atomic
from engine.data import EvalItem, read_eval_set, render_prompt
from engine.errors import InputInvalid, RunFailed
from engine.protocol.events.base import Event
from engine.protocol.events.checkpoints import ReadyForKill, Restored
from engine.protocol.events.training import TrainStarted
from engine.protocol.jobs import GenerateJob, TrainJob
from engine.runspec.model import Spec
from engine.scoring import score_files
from engine.steps import StepContext, StepResult
from engine.trainer_process.cluster import cluster_of
from engine.trainer_process.jobs import generate_job, questions_after, train_job, write_prompts
from engine.trainer_process.process import kill_trainer_at, prepared, run_trainer


def prove(ctx: StepContext) -> StepResult:
    """Prove the job, then write the report."""
    spec, train_args = effective_job(ctx)
    observed = _Observed(ctx)
    ctx = replace(ctx, emit=observed.emit, work=_fresh_work(ctx.work))
    # Each process imports its libraries while the one before it works.
    with ExitStack() as started:
        resumed = started.enter_context(prepared(_job(ctx, spec, train_args), ctx.host, name="resumed"))
        killed_at = _train_and_kill(ctx, spec, train_args) if ctx.args["kill"] else None
        items, generate = _generation(ctx, spec)
        answering = started.enter_context(prepared(generate, ctx.host))
        run_trainer(resumed, ctx.host)
        _check_resumed(killed_at, observed)
        run_trainer(answering, ctx.host)
    n_items, score = _score(ctx, items, Path(generate.out))
    report = _report(ctx, observed, killed_at, n_items, score)
    write_atomic(ctx.out / "smoke_report.json", pretty_json(report))
    for line in report["proved"]:
        ctx.note(f"proved: {line}")
    for line in report["not_proved"]:
        ctx.note(f"not proved: {line}")
    return StepResult(report)


def _check_resumed(killed_at: int | None, observed: _Observed) -> None:
    """Raises RunFailed R301 where the second process did not resume from the checkpoint of the first."""
    if killed_at is not None and observed.resumed_from != killed_at:
        raise RunFailed(
            "R301",
            f"the training process was killed after the checkpoint of train step {killed_at}, "
            f"but resumed from train step {observed.resumed_from}",
            hint="a run that is interrupted would lose work; see the notes above for why the checkpoint was refused",
        )


def effective_job(ctx: StepContext) -> tuple[Spec, dict[str, Any]]:
    """The later training step's own arguments, with fewer train steps and the declared reductions."""
    if "train_sft" not in ctx.ahead:
        raise InputInvalid(
            "S401",
            f'step "{ctx.step.id}" proves a later train_sft step, and there is none',
            where=ctx.step.where,
            hint="put it before the train_sft step",
        )
    reduce = dict(ctx.args["reduce"])
    device = reduce.pop("device", None)
    spec = replace(ctx.spec, device=device) if device else ctx.spec
    if "seq_len" in reduce:  # rows that no longer fit are truncated: the report says that longer ones are not proved
        reduce["on_long_row"] = "truncate"
    # The schedule and every other shape stay those of the full job; only the number of train steps is smaller.
    train = dict(ctx.ahead["train_sft"])
    if _in_cluster(ctx):  # this machine's devices are not the cluster's
        train["mesh"] = {}
    return spec, {**train, **reduce, "save_every_steps": 1, "eval_every_steps": 0}


def _in_cluster(ctx: StepContext) -> bool:
    return cluster_of(ctx.ahead["train_sft"]["cluster"], os.environ) is not None


def _fresh_work(work: Path) -> Path:
    """A new empty folder: a checkpoint of an interrupted smoke run would be resumed, and this one would then not kill its own.

    The name is new too, since the interrupted attempt's trainer may still write for a moment.
    """
    for old in work.glob("attempt-*"):
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="attempt-", dir=work))


class _Observed:
    """Passes events on and remembers what the report needs."""

    def __init__(self, ctx: StepContext) -> None:
        self._emit = ctx.emit
        self.resumed_from: int | None = None
        self.longest_row_tokens: int | None = None
        self.platform: str | None = None

    def emit(self, event: Event | Mapping[str, Any]) -> None:
        """Called with each event of the trainer."""
        if isinstance(event, Restored):
            self.resumed_from = event.train_step
        if isinstance(event, TrainStarted):
            self.longest_row_tokens, self.platform = event.longest_row_tokens, event.platform
        self._emit(event)


def _job(ctx: StepContext, spec: Spec, train_args: Mapping[str, Any], stop_after_saves: int | None = None) -> TrainJob:
    dataset = ctx.inputs["dataset"]
    render = dataset.facts["render"]
    job = train_job(
        spec,
        train_args,
        dataset=dataset.path,
        render=render,
        questions=questions_after(ctx.spec, ctx.step, render=render, work=ctx.work),
        work=ctx.work / "train",
        out=ctx.work / "trained",
        cache=ctx.cache,
    )
    return replace(job, stop_at=ctx.args["num_train_steps"], stop_after_saves=stop_after_saves)


def _train_and_kill(ctx: StepContext, spec: Spec, train_args: Mapping[str, Any]) -> int:
    """SIGKILL after the first checkpoint; its train step."""
    ready = kill_trainer_at(ReadyForKill, _job(ctx, spec, train_args, stop_after_saves=1), ctx.host)
    if ready is None:
        raise RunFailed("R301", "the training process ended before its first checkpoint: nothing was killed")
    ctx.note(f"killed the training process (SIGKILL) after train step {ready.train_step}")
    return ready.train_step


def _generation(ctx: StepContext, spec: Spec) -> tuple[list[EvalItem], GenerateJob]:
    """The ``num_items`` items with the longest prompts, and the job of answering them with the exported model."""
    render = ctx.inputs["dataset"].facts["render"]
    items = read_eval_set(spec.resolve(spec.eval_set), on_duplicate=spec.on_duplicate_item)
    longest = _longest(items, render, ctx.args["num_items"])
    prompts = ctx.work / "prompts.jsonl"
    write_prompts(prompts, longest, render)
    out = ctx.work / "generated"
    out.mkdir(exist_ok=True)
    args = dict(ctx.ahead.get("generate", {}))
    if ctx.args["max_new_tokens"] is not None:
        args["max_new_tokens"] = ctx.args["max_new_tokens"]
    job = generate_job(
        spec,
        args,
        model_dir=ctx.work / "trained" / "model",
        prompts=prompts,
        out=out,
        work=ctx.work / "generate",
        cache=ctx.cache,
    )
    return longest, job


def _score(ctx: StepContext, items: list[EvalItem], predictions: Path) -> tuple[int, float]:
    """Number and score of the answered items."""
    subset = _eval_subset(ctx.work / "eval_subset.jsonl", items)
    metric = ctx.ahead.get("score", {}).get("metric", "answer_correctness@v1")
    _, scorecard = score_files(predictions, subset, metric)
    return scorecard.n_items, scorecard.primary_score


def _longest(items: list[EvalItem], render: str, count: int) -> list[EvalItem]:
    by_length = sorted(items, key=lambda item: (-len(render_prompt(render, item.prompt)), item.id))
    return by_length[:count]


def _eval_subset(path: Path, items: list[EvalItem]) -> Path:
    write_atomic(path, jsonl_bytes(item.as_json() for item in items))
    return path


def _report(ctx: StepContext, observed: _Observed, killed_at: int | None, n_items: int, score: float) -> dict[str, Any]:
    """What was proved and what was not, in sentences with the numbers."""
    train, reduce, steps = ctx.ahead["train_sft"], dict(ctx.args["reduce"]), ctx.args["num_train_steps"]
    same = "the same model, optimizer and batch shape as the full training"
    proved = [
        f"{steps} train steps ran with {'a reduced job' if reduce else same}, on {observed.platform}",
        f"every row fits: the longest has {observed.longest_row_tokens} tokens",
        f"{n_items} predictions were generated from the exported model and scored (score {score:.4f}: "
        "so early it says nothing about quality)",
    ]
    not_proved = [
        f"that {_argument_name(key)} {_declared(ctx, key, train)} works: this run used {value}"
        for key, value in sorted(reduce.items())
    ]
    if killed_at is not None:
        proved.insert(
            2,
            f"the training process was killed (SIGKILL) after train step {killed_at} and resumed from its checkpoint",
        )
    else:
        not_proved.append("that a killed training process resumes from its checkpoint (kill: false)")
    if _in_cluster(ctx):
        not_proved.append(
            "that the processes of the cluster train together: this run used this machine's devices alone"
        )
    not_proved.append(f"that the loss falls: {steps} of {train['num_train_steps']} train steps were run")
    return {
        "proved": proved,
        "not_proved": not_proved,
        "num_train_steps": steps,
        "killed_at": killed_at,
        "resumed_from": observed.resumed_from,
        "longest_row_tokens": observed.longest_row_tokens,
        "score_n_items": n_items,
        "reduce": reduce,
        "platform": observed.platform,
    }


def _argument_name(key: str) -> str:
    return {"per_device_batch_size": "a batch of"}.get(key, key)


def _declared(ctx: StepContext, key: str, train: Mapping[str, Any]) -> Any:
    return ctx.spec.device if key == "device" else train[key]
