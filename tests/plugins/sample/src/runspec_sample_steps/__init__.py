"""``count_words``: a step from another package. In: a dataset artifact. Out: ``words.json``."""

from __future__ import annotations

import json
from collections import Counter

from engine.canonical import pretty_json, write_atomic
from engine.steps import FunctionHandler, StepContext, StepResult

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "most": {
            "type": "integer",
            "minimum": 1,
            "default": 3,
            "title": "How many words",
            "description": "How many of the most frequent words to keep (words).",
        }
    },
}


def run(ctx: StepContext) -> StepResult:
    """Count the words of every segment of every row."""
    words: Counter[str] = Counter()
    with ctx.inputs["dataset"].file("rows.jsonl").open(encoding="utf-8") as rows:
        for row in rows:
            for segment in json.loads(row)["segments"]:
                words.update(segment["text"].split())
    top = dict(sorted(words.most_common(ctx.args["most"])))
    write_atomic(ctx.out / "words.json", pretty_json(top))
    ctx.note(f"{sum(words.values())} words")
    return StepResult({"n_words": sum(words.values())})


HANDLER = FunctionHandler(
    kind="count_words",
    version=1,
    title="count the words of the dataset",
    takes=("dataset",),
    makes="word_count",
    files=("words.json",),
    schema=SCHEMA,
    function=run,
)
