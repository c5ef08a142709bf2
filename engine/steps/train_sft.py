"""``train_sft``: supervised fine-tuning, in a process of its own.

In: a dataset artifact, the spec's model. Out: a checkpoint artifact (``model/`` in Hugging Face's layout,
``metrics.jsonl``, ``train_report.json``). Its ``work`` folder keeps the trainer's own checkpoints, so that a
killed run resumes. The files of other tools (``report_to``) and the profiler's trace are not part of the artifact: they
are in ``.runspec/reports/<run_version>/<step>/<training>/``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import RunFailed
from engine.steps import FunctionHandler, StepContext, StepResult
from engine.steps.schemas import step_schema
from engine.trainer_process.carried import training_files
from engine.trainer_process.cluster import cluster_of
from engine.trainer_process.libraries import TRAINER_LIBRARIES

if TYPE_CHECKING:
    from engine.protocol.deadline import Cadence


def run(ctx: StepContext) -> StepResult:
    """Train, and pass the trainer's report on as the facts."""
    from engine.trainer_process import (  # `validate` loads every step, and never pays for the trainer's side
        jobs,
        process,
    )

    dataset = ctx.inputs["dataset"]
    render = dataset.facts["render"]
    job = jobs.train_job(
        ctx.spec,
        ctx.args,
        dataset=dataset.path,
        render=render,
        work=ctx.work,
        out=ctx.out,
        cache=ctx.cache,
        questions=jobs.questions_after(ctx.spec, ctx.step, render=render, work=ctx.work),
        reports=ctx.cache.parent / "reports" / ctx.spec.run_version / ctx.step.id,
        cluster=cluster_of(ctx.args["cluster"], os.environ),
        stop_at=ctx.stop_at,
        session=ctx.session,
        deadline=ctx.deadline and replace(ctx.deadline, cadence=_cadence(ctx)),
    )
    report = process.run_trainer(job, ctx.host)
    if "process" in report:
        raise RunFailed(
            "R206",
            f"this is process {report['process']} of the cluster, but it was started as process 0",
            hint="set RUNSPEC_COORDINATOR, RUNSPEC_NUM_PROCESSES and RUNSPEC_PROCESS_ID for each process",
        )
    return StepResult(report)


def _cadence(ctx: StepContext) -> Cadence:
    """Measured where nobody wrote how often to save, and no other argument counts in such intervals."""
    typed = {override.path for override in ctx.spec.overrides}
    written = "save_every_steps" in ctx.step.declared or f"{ctx.step.id}.save_every_steps" in typed
    counts = ctx.args["keep_every_steps"] is not None or ctx.args["keep_best"] is not None
    return "declared" if written or counts else "measured"


HANDLER = FunctionHandler(
    kind="train_sft",
    version=4,
    title="fine-tune the model on the dataset",
    takes=("dataset",),
    makes="checkpoint",
    files=("model/config.json", "metrics.jsonl", "train_report.json"),
    measured=("metrics.jsonl", "train_report.json"),
    reads=("model", "device"),
    needs_extra="train",
    libraries=TRAINER_LIBRARIES,
    carries=training_files,
    schema=step_schema("train_sft"),
    function=run,
)
