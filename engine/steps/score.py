"""``score``: compare the predictions with the eval set by a versioned rule.

In: a predictions artifact, the spec's eval set. Out: a scorecard artifact (``predictions.jsonl``, one scored row
an item in the order of the eval set, and ``scorecard.json``). Items that repeat a question are counted, and under
``on_duplicate: drop`` left out, as ``generate`` leaves them out.
"""

from __future__ import annotations

from engine.canonical import jsonl_bytes, pretty_json, write_atomic
from engine.data import without_repeats
from engine.scoring import read_eval_set, read_predictions, score
from engine.steps import FunctionHandler, StepContext, StepResult
from engine.steps.schemas import step_schema


def run(ctx: StepContext) -> StepResult:
    """Score every item; one without a prediction counts 0."""
    predictions = read_predictions(ctx.inputs["predictions"].file("predictions_raw.jsonl"))
    items = read_eval_set(ctx.spec.resolve(ctx.spec.eval_set))
    first = without_repeats(items)
    asked = first if ctx.spec.on_duplicate_item == "drop" else items
    rows, scorecard = score(asked, predictions, ctx.args["metric"])
    write_atomic(ctx.out / "predictions.jsonl", jsonl_bytes(row.as_json() for row in rows))
    write_atomic(ctx.out / "scorecard.json", pretty_json(scorecard.as_json()))
    repeated: dict[str, int | str] = {"n_repeated_items": len(items) - len(first)}
    if len(items) > len(first):
        repeated["on_duplicate_item"] = ctx.spec.on_duplicate_item
    return StepResult(
        {
            "metric": scorecard.metric,
            "primary_score": scorecard.primary_score,
            "n_items": scorecard.n_items,
            "n_scored": scorecard.n_scored,
            "n_skipped": scorecard.n_skipped,
            **repeated,
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
