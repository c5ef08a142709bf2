"""``wrong_answers``: the items that the model answered wrong, with their questions, in one file to read.

In: a scorecard artifact (its ``predictions.jsonl`` has each answer with its verdict) and the eval set. Out: a wrong_answers
artifact, ``wrong.jsonl``, one row an item:

    {"id": "quick-001", "prompt": "74 + 10 = ?", "expected": "84", "answered": "85"}
"""

from __future__ import annotations

import json

from engine.canonical import jsonl_bytes, write_atomic
from engine.data import read_eval_set
from engine.steps import FunctionHandler, StepContext, StepResult

# The arguments a run-spec may give under `with:`, checked by `runspec validate` like those of any built-in step.
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "most": {
            "title": "At most",
            "description": "How many wrong answers to list, in the order of the eval set.",
            "type": "integer",
            "minimum": 1,
            "default": 20,
            "x-unit": "items",
        }
    },
}


def run(ctx: StepContext) -> StepResult:
    """Write ``wrong.jsonl`` into ``ctx.out``, and return the facts that `runspec show` prints."""
    prompts = {item.id: item.prompt for item in read_eval_set(ctx.spec.resolve(ctx.spec.eval_set))}
    lines = ctx.inputs["scorecard"].file("predictions.jsonl").read_text(encoding="utf-8").split("\n")
    answers = [json.loads(line) for line in lines if line]
    wrong = [answer for answer in answers if answer["correct"] < 1]
    rows = [
        {
            "id": answer["id"],
            "prompt": prompts[answer["id"]],
            "expected": answer["expected"],
            "answered": answer["text"],
        }
        for answer in wrong[: ctx.args["most"]]
    ]
    write_atomic(ctx.out / "wrong.jsonl", jsonl_bytes(rows))
    return StepResult({"n_items": len(answers), "n_wrong": len(wrong)})


HANDLER = FunctionHandler(
    kind="wrong_answers",
    version=1,  # raise it when the same inputs give another result: published artifacts are then made again
    title="list the wrong answers",
    takes=("scorecard",),
    makes="wrong_answers",
    files=("wrong.jsonl",),
    reads=("eval_set",),
    schema=SCHEMA,
    function=run,
)
