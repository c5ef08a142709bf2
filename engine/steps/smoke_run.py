"""``smoke_run``: proves the full job on a few train steps; :mod:`engine.steps.smoke_proof` says how."""

from __future__ import annotations

from engine.steps import FunctionHandler, StepContext, StepResult
from engine.steps.schemas import step_schema
from engine.trainer_process.libraries import TRAINER_LIBRARIES


def run(ctx: StepContext) -> StepResult:
    """Prove the job, then write the report."""
    from engine.steps.smoke_proof import prove  # not for those who only read the handler

    return prove(ctx)


HANDLER = FunctionHandler(
    kind="smoke_run",
    version=1,
    title="prove the full job on a few steps",
    takes=("dataset",),
    makes="smoke_report",
    files=("smoke_report.json",),
    reads=("model", "eval_set", "device"),
    looks_ahead=("train_sft", "generate", "score"),
    needs_extra="train",
    libraries=TRAINER_LIBRARIES,
    schema=step_schema("smoke_run"),
    function=run,
)
