"""The predictions of a package, judged again: every verdict and the scorecard, and where the recorded ones differ.

In: the evidence. Out: :class:`Judged`. Check V11, the page, ``runspec items`` and ``runspec score`` ask here, so that they
cannot disagree.

    judged = judge(Evidence(read_bundle(path)))
    judged.card.primary_score, differences(evidence, judged)    # 0.86, []
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from engine.canonical import jsonl_bytes
from engine.data import without_repeats
from engine.evidence.contents import OTHER_FORM, Evidence, changes, equal_values
from engine.scoring import Scorecard, ScoredPrediction, ScoringItem, parse_eval_set, parse_predictions, score


class Judged(NamedTuple):
    """The items that were asked, a row for each of them, and the scorecard."""

    items: Sequence[ScoringItem]
    rows: Sequence[ScoredPrediction]
    card: Scorecard


def asked_items(evidence: Evidence) -> Sequence[ScoringItem]:
    """The items of the eval set, without those that the recorded policy leaves out."""
    return _asked(evidence.text("eval_set.jsonl"), evidence.drops_repeated_items)


def all_items(evidence: Evidence) -> Sequence[ScoringItem]:
    """The items of the eval set, repeated ones too."""
    return _asked(evidence.text("eval_set.jsonl"), False)


def recorded_metric(evidence: Evidence) -> str:
    """The metric of the score step."""
    return str(evidence.step("score")["with"]["metric"])


def judge(evidence: Evidence, metric: str | None = None) -> Judged:
    """By the recorded metric, or another. Raises Broken, and InputInvalid where a file cannot be read as what it should be."""
    asked, drops_repeats = evidence.text("eval_set.jsonl"), evidence.drops_repeated_items
    return _judge(asked, drops_repeats, evidence.text("predictions.jsonl"), metric or recorded_metric(evidence))


# Several checks ask for the same, and so does the page that one of them makes again: the last answer is kept.


@lru_cache(maxsize=2)
def _asked(text: str, drops_repeats: bool) -> Sequence[ScoringItem]:
    items = parse_eval_set(text, "eval_set.jsonl")
    return without_repeats(items) if drops_repeats else items


@lru_cache(maxsize=1)
def _judge(eval_set: str, drops_repeats: bool, predictions: str, metric: str) -> Judged:
    items = _asked(eval_set, drops_repeats)
    answered = [row for row in parse_predictions(predictions, "predictions.jsonl") if row.text is not None]
    return Judged(items, *score(items, answered, metric))


def differences(evidence: Evidence, judged: Judged) -> list[str]:
    """Where scorecard.json and predictions.jsonl are not what comes out now, in values or in the bytes that spell them."""
    found, expected = evidence.json("scorecard.json"), judged.card.as_json()
    problems = [
        f"scorecard.json: {key} is {found.get(key)!r}, recomputed {expected.get(key)!r}"
        for key in sorted({*found, *expected})
        if key not in found or key not in expected or not equal_values(found[key], expected[key])
    ]
    expected_rows = [row.as_json() for row in judged.rows]
    if not problems and jsonl_bytes(expected_rows) == evidence.data("predictions.jsonl"):
        return []
    for row, expected_row in zip(evidence.rows("predictions.jsonl"), expected_rows, strict=True):
        problems += changes(expected_row, row, str(expected_row["id"]))
    return problems or [f"predictions.jsonl {OTHER_FORM}"]
