"""Scoring: predictions and an eval set in, per-item results and a scorecard out. Pure, no JAX.

    >>> item = ScoringItem(id="a", prompt="2 + 2?", expected_answer="4", section="core")
    >>> rows, card = score([item], [Prediction(id="a", text="2 and 2.\\nAnswer: 4")], "answer_correctness@v1")
    >>> rows[0].extracted, card.primary_score, card.section_scores
    ('4', 1.0, {'core': 1.0})

The rule, its versions and its vectors are in docs/reference/scoring.md. An island: of the engine it imports only
``errors`` and ``canonical``.
"""

from engine.scoring.metrics import METRICS, Metric, metric_named
from engine.scoring.normalise import extract_answer, normalise
from engine.scoring.readers import (
    Prediction,
    ScoringItem,
    objects_of,
    parse_eval_set,
    parse_predictions,
    read_eval_set,
    read_predictions,
)
from engine.scoring.scorecard import Scorecard, ScoredPrediction, score, score_files
from engine.scoring.summary import result_summary_text

__all__ = [
    "METRICS",
    "Metric",
    "Prediction",
    "Scorecard",
    "ScoredPrediction",
    "ScoringItem",
    "extract_answer",
    "metric_named",
    "normalise",
    "objects_of",
    "parse_eval_set",
    "parse_predictions",
    "read_eval_set",
    "read_predictions",
    "result_summary_text",
    "score",
    "score_files",
]
