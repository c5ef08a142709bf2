"""``score``: compare the predictions with the eval set by a versioned rule.

In: a predictions artifact, the spec's eval set. Out: a scorecard artifact (``predictions.jsonl``, one scored row
an item in the order of the eval set, and ``scorecard.json``).
"""

from __future__ import annotations

from dataclasses import asdict

from engine.canonical import jsonl_bytes, pretty_json, write_atomic
from engine.scoring import score_files
from engine.steps import FunctionHandler, StepContext, StepResult
from engine.steps.schemas import step_schema


def run(ctx: StepContext) -> StepResult:
    """Score every item; one without a prediction counts 0."""
    predictions = ctx.inputs["predictions"].file("predictions_raw.jsonl")
    eval_set = ctx.spec.resolve(ctx.spec.eval_set)
    rows, scorecard = score_files(predictions, eval_set, ctx.args["metric"])
    write_atomic(ctx.out / "predictions.jsonl", jsonl_bytes(asdict(row) for row in rows))
    write_atomic(ctx.out / "scorecard.json", pretty_json(asdict(scorecard)))
    return StepResult(
        {
            "metric": scorecard.metric,
            "primary_score": scorecard.primary_score,
            "n_items": scorecard.n_items,
            "n_scored": scorecard.n_scored,
            "n_skipped": scorecard.n_skipped,
        }
    )


HANDLER = FunctionHandler(
    kind="score",
    version=1,
    title="score the predictions",
    takes=("predictions",),
    makes="scorecard",
    files=("predictions.jsonl", "scorecard.json"),
    measured=("predictions.jsonl",),
    reads=("eval_set",),
    schema=step_schema("score"),
    function=run,
)
