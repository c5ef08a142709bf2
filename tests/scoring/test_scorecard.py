"""Scorecards: which items count, what a mean is over, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid
from engine.scoring import Prediction, ScoringItem, result_summary_text, score, score_files

METRIC = "answer_correctness@v1"
ITEMS = [
    ScoringItem("a", "?", "1", "core", "sums", "easy"),
    ScoringItem("b", "?", "2", "core", "facts", "hard"),
    ScoringItem("c", "?", "3", "edge_case", None, "easy"),
]
ITEM_ROW = {"id": "a", "prompt": "?", "expected_answer": "1"}


def _lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def _refused(tmp_path: Path, predictions: str | bytes, eval_set: str) -> list[tuple[str, int | None]]:
    raw = predictions.encode() if isinstance(predictions, str) else predictions
    (tmp_path / "p.jsonl").write_bytes(raw)
    (tmp_path / "e.jsonl").write_text(eval_set, encoding="utf-8")
    with pytest.raises(InputInvalid) as caught:
        score_files(tmp_path / "p.jsonl", tmp_path / "e.jsonl", METRIC)
    return [(found.code, found.where.line if found.where else None) for found in caught.value.diagnostics]


def test_a_missing_prediction_counts_zero_in_the_mean() -> None:
    """Leaving hard items out cannot raise the score: the mean is over all items."""
    rows, card = score(ITEMS, [Prediction("b", "2")], METRIC)
    assert (card.n_items, card.n_scored, card.n_skipped) == (3, 1, 2)
    assert card.primary_score == pytest.approx(1 / 3)
    assert (rows[0].id, rows[0].text, rows[0].extracted, rows[0].correct) == ("a", None, None, 0.0)


def test_an_empty_text_is_scored_and_a_null_text_is_skipped() -> None:
    """An empty text is a prediction, null is none. Both count 0."""
    _, card = score(ITEMS, [Prediction("a", ""), Prediction("b", None)], METRIC)
    assert (card.n_scored, card.n_skipped, card.primary_score) == (1, 2, 0.0)


def test_groups_are_means_over_their_items_sorted_by_name() -> None:
    """An item without a category is in no category; names come sorted."""
    _, card = score(ITEMS, [Prediction("a", "1"), Prediction("c", "3")], METRIC)
    assert list(card.section_scores.items()) == [("core", 0.5), ("edge_case", 1.0)]
    assert list(card.category_scores.items()) == [("facts", 0.0), ("sums", 1.0)]
    assert list(card.difficulty_scores.items()) == [("easy", 1.0), ("hard", 0.0)]


def test_stddev_is_that_of_the_population() -> None:
    """Divided by n: three items, one right."""
    _, card = score(ITEMS, [Prediction("a", "1")], METRIC)
    assert card.stddev == pytest.approx(math.sqrt(2 / 9))


@given(st.lists(st.sampled_from(["right", "wrong", "none"]), min_size=1, max_size=30), st.randoms())
def test_counts_add_up_and_order_does_not_matter(outcomes: list[str], random: Any) -> None:
    """n_items = n_scored + n_skipped, the score is the share of right ones, rows come in eval-set order."""
    items = [ScoringItem(str(index), "?", "yes") for index in range(len(outcomes))]
    text = {"right": "YES", "wrong": "no"}
    predictions = [Prediction(str(i), text[word]) for i, word in enumerate(outcomes) if word != "none"]
    random.shuffle(predictions)
    rows, card = score(items, predictions, METRIC)
    assert [row.id for row in rows] == [item.id for item in items]
    assert card.n_items == card.n_scored + card.n_skipped == len(outcomes)
    assert card.primary_score == outcomes.count("right") / len(outcomes)


def test_scoring_the_scored_file_again_gives_the_same(tmp_path: Path) -> None:
    """predictions.jsonl, the scorer's own output, can be scored again: that is what verify does."""
    rows, card = score(ITEMS, [Prediction("a", "Answer: 1"), Prediction("b", "x")], METRIC)
    (tmp_path / "p.jsonl").write_text(_lines(*[row.as_json() for row in rows]), encoding="utf-8")
    eval_rows = [{"id": i.id, "prompt": i.prompt, "expected_answer": i.expected_answer, "section": i.section,
                  "category": i.category, "difficulty": i.difficulty} for i in ITEMS]  # fmt: skip
    (tmp_path / "e.jsonl").write_text(_lines(*eval_rows), encoding="utf-8")
    assert score_files(tmp_path / "p.jsonl", tmp_path / "e.jsonl", METRIC) == (rows, card)


@pytest.mark.parametrize(
    ("predictions", "code", "line"),
    [
        (_lines({"id": "a", "text": "1"}, "{bad"), "K103", 2),
        (_lines({"id": "a", "text": "1"}, ""), "K103", 2),
        (_lines("[1]"), "K103", 1),
        (_lines('{"id": "a", "text": "1", "text": "2"}'), "K103", 1),
        (_lines('{"id": "a", "text": "1", "milliseconds": NaN}'), "K103", 1),
        ("[" * 100_000 + "\n", "K103", 1),
        (_lines({"id": "a"}), "K104", 1),
        (_lines({"id": "a", "text": 1}), "K104", 1),
        (_lines({"text": "1"}), "K104", 1),
        (_lines({"id": "a", "text": "1", "new_tokens": True}), "K104", 1),
        (_lines({"id": "a", "text": "1"}, {"id": "a", "text": "2"}), "K105", 2),
        (_lines({"id": "z", "text": "1"}), "K106", None),
        (b"\xff\xfe", "K102", 0),
    ],
)
def test_bad_predictions_are_refused_with_code_and_line(
    tmp_path: Path, predictions: str | bytes, code: str, line: int | None
) -> None:
    """Each defect has its own code, at the line it stands on."""
    assert _refused(tmp_path, predictions, _lines(ITEM_ROW)) == [(code, line)]


@pytest.mark.parametrize(
    ("eval_set", "code"),
    [
        ("", "K107"),
        (_lines({**ITEM_ROW, "expected_answer": " "}), "K107"),
        (_lines(ITEM_ROW, ITEM_ROW), "K105"),
        (_lines({"id": "a"}), "K104"),
    ],
)
def test_bad_eval_sets_are_refused(tmp_path: Path, eval_set: str, code: str) -> None:
    """No items, an empty expected answer, a repeated id, a missing field."""
    assert _refused(tmp_path, "", eval_set)[0][0] == code


def test_all_findings_come_at_once_up_to_a_limit(tmp_path: Path) -> None:
    """Thirty bad lines: twenty are shown, and the rest are counted."""
    assert len(_refused(tmp_path, "x\n" * 30, _lines(ITEM_ROW))) == 21


def test_missing_files_and_folders_are_said_plainly(tmp_path: Path) -> None:
    """K102, not a traceback."""
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(InputInvalid) as caught:
            score_files(path, path, METRIC)
        assert caught.value.code == "K102"


def test_an_unknown_metric_names_the_nearest() -> None:
    """K101 with a suggestion."""
    with pytest.raises(InputInvalid) as caught:
        score(ITEMS, [], "answer_corectness@v1")
    assert (caught.value.code, caught.value.hint) == ("K101", 'did you mean "answer_correctness@v1"?')


def test_the_result_summary_is_the_runbook_block() -> None:
    """Character by character, four decimals, also for a whole number."""
    rule = "=" * 60
    assert result_summary_text(
        {"model_id": "google/gemma-2b", "dataset": "dev-reasoning-v2", "eval_set": "evalsets/eval_v2.jsonl",
         "primary_score": 1, "final_loss": 0.123456, "n_items": 100, "n_scored": 99}
    ) == (
        f"{rule}\n         RESULT SUMMARY (copy to evidence files)\n{rule}\nmodel_id: google/gemma-2b\n"
        "dataset: dev-reasoning-v2\neval_set: evalsets/eval_v2.jsonl\nprimary_score: 1.0000\n"
        f"final_loss: 0.1235\nn_items: 100\nn_scored: 99\n{rule}\n"
    )  # fmt: skip
