"""``result_summary``: the RESULT SUMMARY block of the runbook, computed.

In: a checkpoint and a scorecard artifact. Out: a summary artifact (``summary.json`` and ``summary.txt``).
"""

from __future__ import annotations

from engine.canonical import pretty_json, write_atomic
from engine.scoring import result_summary_text
from engine.steps import FunctionHandler, StepContext, StepResult
from engine.steps.schemas import step_schema


def run(ctx: StepContext) -> StepResult:
    """Gather the seven lines from the artifacts that made them."""
    score, train = ctx.inputs["scorecard"].facts, ctx.inputs["checkpoint"].facts
    summary = {
        "model_id": ctx.spec.model.id,
        "dataset": ctx.spec.dataset.label,
        "eval_set": ctx.spec.eval_set,
        "primary_score": score["primary_score"],
        "final_loss": train["final_loss"],
        "n_items": score["n_items"],
        "n_scored": score["n_scored"],
    }
    write_atomic(ctx.out / "summary.json", pretty_json(summary))
    write_atomic(ctx.out / "summary.txt", result_summary_text(summary))
    return StepResult(summary)


HANDLER = FunctionHandler(
    kind="result_summary",
    version=1,
    title="sum up the run",
    takes=("checkpoint", "scorecard"),
    makes="summary",
    files=("summary.json", "summary.txt"),
    reads=("model", "dataset", "eval_set"),
    schema=step_schema("result_summary"),
    function=run,
)
