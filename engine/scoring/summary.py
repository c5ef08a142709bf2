"""The RESULT SUMMARY block of the runbook, from the summary's values.

>>> print(result_summary_text({"model_id": "m", "dataset": "d", "eval_set": "e.jsonl",
...     "primary_score": 0.5, "final_loss": 1.23456, "n_items": 2, "n_scored": 2}).splitlines()[6])
primary_score: 0.5000
"""

from __future__ import annotations

from typing import Any

from engine.canonical import JsonMapping

RULE = "=" * 60
TITLE = " " * 9 + "RESULT SUMMARY (copy to evidence files)"
FIELDS = ("model_id", "dataset", "eval_set", "primary_score", "final_loss", "n_items", "n_scored")
FRACTIONS = ("primary_score", "final_loss")


def _printed(name: str, value: Any) -> str:
    return f"{float(value):.4f}" if name in FRACTIONS else str(value)


def result_summary_text(summary: JsonMapping) -> str:
    """The block exactly as the runbook prints it, ended by a newline. Raises KeyError for a missing field."""
    fields = [f"{name}: {_printed(name, summary[name])}" for name in FIELDS]
    return "\n".join([RULE, TITLE, RULE, *fields, RULE]) + "\n"
