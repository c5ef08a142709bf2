"""The predictions of a package, judged again: every verdict and the scorecard, and where the recorded ones differ.

In: the evidence. Out: :class:`Judged`. Check V11, the page, ``runspec items`` and ``runspec score`` ask here, so that they
cannot disagree.

    judged = judge(Evidence(read_bundle(path)))
    judged.card.primary_score, differences(evidence, judged)    # 0.86, []
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.data import without_repeats
from engine.evidence.contents import Evidence, changes, equal_values
from engine.scoring import Scorecard, ScoredPrediction, ScoringItem, parse_eval_set, parse_predictions, score


class Judged(NamedTuple):
    """The items that were asked, a row for each of them, and the scorecard."""

    items: Sequence[ScoringItem]
    rows: Sequence[ScoredPrediction]
    card: Scorecard


def asked_items(evidence: Evidence) -> Sequence[ScoringItem]:
    """The items of the eval set, without those that the recorded policy leaves out."""
    items = parse_eval_set(evidence.text("eval_set.jsonl"), "eval_set.jsonl")
    return without_repeats(items) if evidence.drops_repeated_items else items


def recorded_metric(evidence: Evidence) -> str:
    """The metric of the score step."""
    return str(evidence.step("score")["with"]["metric"])


def judge(evidence: Evidence, metric: str | None = None) -> Judged:
    """By the recorded metric, or another. Raises Broken, and InputInvalid where a file cannot be read as what it should be."""
    items = asked_items(evidence)
    predictions = parse_predictions(evidence.text("predictions.jsonl"), "predictions.jsonl")
    answered = [row for row in predictions if row.text is not None]
    return Judged(items, *score(items, answered, metric or recorded_metric(evidence)))


def differences(evidence: Evidence, judged: Judged) -> list[str]:
    """Where scorecard.json and the verdicts of predictions.jsonl are not what comes out now."""
    found, expected = evidence.json("scorecard.json"), judged.card.as_json()
    problems = [
        f"scorecard.json: {key} is {found.get(key)!r}, recomputed {expected.get(key)!r}"
        for key in sorted({*found, *expected})
        if key not in found or key not in expected or not equal_values(found[key], expected[key])
    ]
    for row, scored in zip(evidence.rows("predictions.jsonl"), judged.rows, strict=True):
        problems += changes(scored.as_json(), row, f"{scored.id}")
    return problems
