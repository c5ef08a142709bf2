"""``generate``: answer every item of the eval set with the trained model, in a process of its own.

In: a checkpoint artifact, the spec's eval set. Out: a predictions artifact (``predictions_raw.jsonl``, one
row an item in the order of the eval set, and ``generate_report.json``).
"""

from __future__ import annotations

from engine.data import read_eval_set
from engine.steps import FunctionHandler, StepContext, StepResult
from engine.steps.schemas import step_schema
from engine.trainer_process.carried import generated_files
from engine.trainer_process.libraries import TRAINER_LIBRARIES


def run(ctx: StepContext) -> StepResult:
    """Render the prompts as the training rows were rendered, then generate."""
    from engine.trainer_process import jobs, process  # not for those who only read the handler

    checkpoint = ctx.inputs["checkpoint"]
    items = read_eval_set(ctx.spec.resolve(ctx.spec.eval_set), on_duplicate=ctx.spec.on_duplicate_item)
    prompts = ctx.work / "prompts.jsonl"
    jobs.write_prompts(prompts, items, checkpoint.facts["render"])
    job = jobs.generate_job(
        ctx.spec,
        ctx.args,
        model_dir=checkpoint.path / "model",
        prompts=prompts,
        out=ctx.out,
        work=ctx.work,
        cache=ctx.cache,
        deadline=ctx.deadline,
    )
    return StepResult(process.run_trainer(job, ctx.host))


HANDLER = FunctionHandler(
    kind="generate",
    version=5,
    title="answer the eval set with the trained model",
    takes=("checkpoint",),
    makes="predictions",
    files=("predictions_raw.jsonl", "generate_report.json"),
    measured=("predictions_raw.jsonl", "generate_report.json"),
    reads=("eval_set", "device"),
    needs_extra="train",
    libraries=TRAINER_LIBRARIES,
    carries=generated_files,
    schema=step_schema("generate"),
    function=run,
)
