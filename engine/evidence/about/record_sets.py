"""The columns of eval set and predictions, for a description that a loader of data sets reads.

In: the bytes of both. Out: rows {name, file, description, fields: [{name, type, description}]}. A column that no row has is not there.

    >>> [field["name"] for field in record_sets(b'{"id": "a", "prompt": "?", "expected_answer": "1"}', b"")[0]["fields"]]
    ['id', 'prompt', 'expected_answer']
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from engine.canonical import JsonObject

TEXT, INTEGER, FLOAT = "sc:Text", "sc:Integer", "sc:Float"
Column = tuple[str, str, str]  # name, type, what it is
EVAL_SET: Sequence[Column] = (
    ("id", TEXT, "the item"),
    ("prompt", TEXT, "the question"),
    ("expected_answer", TEXT, "what the metric compares with"),
    ("section", TEXT, "its section"),
    ("category", TEXT, "its category"),
    ("difficulty", TEXT, "its difficulty"),
)
PREDICTIONS: Sequence[Column] = (
    ("id", TEXT, "the item"),
    ("text", TEXT, "what the model wrote"),
    ("extracted", TEXT, "the answer in it, as the metric found it"),
    ("expected", TEXT, "the expected answer"),
    ("correct", FLOAT, "the score of the item, 0 to 1"),
    ("new_tokens", INTEGER, "tokens that were generated"),
    ("finish_reason", TEXT, "why generation ended"),
)


def record_sets(eval_set: bytes, predictions: bytes) -> list[JsonObject]:
    """Both, each with the columns that it has."""
    return [
        _set("eval_items", "eval_set.jsonl", "the questions, one a row", EVAL_SET, eval_set),
        _set("answers", "predictions.jsonl", "the model's answers, one an item", PREDICTIONS, predictions),
    ]


def _set(name: str, file: str, description: str, columns: Sequence[Column], data: bytes) -> JsonObject:
    wanted, present = {key for key, _, _ in columns}, set[str]()
    for line in filter(None, data.split(b"\n")):
        present |= {key for key, value in json.loads(line).items() if value is not None}
        if wanted <= present:  # of 20,000 rows most need not be read
            break
    fields = [{"name": key, "type": type_, "description": what} for key, type_, what in columns if key in present]
    return {"name": name, "file": file, "description": description, "fields": fields}
