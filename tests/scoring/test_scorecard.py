"""Scorecards: which items count, what a mean is over, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid, render
from engine.scoring import Metric, Prediction, ScoringItem, result_summary_text, score, score_files

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
        (_lines('{"id": "a", "text": "1", "milliseconds": 1e999}'), "K103", 1),
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
        (_lines({**ITEM_ROW, "expected_answer": "Answer: 4"}), "K107"),
        (_lines(ITEM_ROW, ITEM_ROW), "K105"),
        (_lines({"id": "a"}), "K104"),
    ],
)
def test_bad_eval_sets_are_refused(tmp_path: Path, eval_set: str, code: str) -> None:
    """No items, an empty expected answer, a repeated id, a missing field."""
    assert _refused(tmp_path, "", eval_set)[0][0] == code


def test_all_findings_come_at_once_up_to_a_limit(tmp_path: Path) -> None:
    """Thirty lines with errors of their own: twenty are shown, and the rest are counted."""
    twice = [{"id": f"i{at // 2}", "text": ""} for at in range(60)]
    found = _refused(tmp_path, _lines(*twice), _lines(ITEM_ROW))
    assert [line for _, line in found] == [*range(2, 42, 2), 0]


def test_of_one_error_in_every_line_three_are_shown(tmp_path: Path) -> None:
    """The thirty-first line has another one, which is not buried."""
    rows = [{"id": f"i{at}", "text": 4} for at in range(30)]
    found = _refused(tmp_path, _lines(*rows, "{}"), _lines(ITEM_ROW))
    assert found == [("K104", 1), ("K104", 2), ("K104", 3), ("K104", 31), ("K104", 0)]


def test_missing_files_and_folders_are_said_plainly(tmp_path: Path) -> None:
    """K102, not a traceback."""
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(InputInvalid) as caught:
            score_files(path, path, METRIC)
        assert caught.value.code == "K102"


def _said(predictions: list[Prediction], items: list[ScoringItem]) -> list[str]:
    """What a person reads of each finding."""
    with pytest.raises(InputInvalid) as caught:
        score(items, predictions, METRIC)
    return [render(found) for found in caught.value.diagnostics]


def test_predictions_that_do_not_fit_the_eval_set_are_named_all_at_once() -> None:
    """A second prediction for an item, and one for an item that is not there, with the nearest there is."""
    items = [ScoringItem("sums-01", "?", "1"), ScoringItem("sums-02", "?", "2")]
    predictions = [Prediction(name, "1") for name in ("sums-01", "sums-1", "other", "sums-01")]
    assert _said(predictions, items) == [
        'error[K106]: a prediction for "sums-1", which no item has\n   = help: did you mean "sums-01"?',
        'error[K106]: a prediction for "other", which no item has\n   = help: is this the right eval set?',
        'error[K105]: two predictions for item "sums-01"',
    ]


def test_of_a_wrong_eval_set_twenty_findings_are_enough() -> None:
    """The nearest id is looked up for the first three: a search for each of a million would take hours."""
    items = [ScoringItem("sums-01", "?", "1")]
    said = _said([Prediction(f"sums-{index}", "1") for index in range(2, 100)], items)
    assert len(said) == 20
    assert ["did you mean" in one for one in said] == [True] * 3 + [False] * 17


def test_no_items_are_no_eval_set() -> None:
    """A mean over nothing does not exist."""
    assert _said([], []) == ["error[K107]: the eval set has no items"]


def test_any_metric_may_judge() -> None:
    """A metric goes from (text, expected) to (extracted, score from 0 to 1); its id is in the scorecard."""
    share = Metric("share@v1", "share of the letters", lambda text, expected: (text.upper(), len(text) / len(expected)))
    items = [ScoringItem("a", "?", "four"), ScoringItem("b", "?", "four"), ScoringItem("c", "?", "four")]
    rows, card = score(items, [Prediction("a", "x"), Prediction("b", "xyz")], share)
    assert [(row.extracted, row.expected, row.correct) for row in rows] == [
        ("X", "four", 0.25), ("XYZ", "four", 0.75), (None, "four", 0.0),
    ]  # fmt: skip
    assert (card.metric, card.primary_score) == ("share@v1", pytest.approx(1 / 3))


def test_the_mean_does_not_depend_on_the_order_of_the_items() -> None:
    """Sums are rounded once: three tenths, however they are added up, give the same last digit."""
    tenths = Metric("tenths@v1", "tenths", lambda text, expected: (text, float(text)))
    texts = ["0.1", "0.2", "0.3", "0.7", "1.0", "0.1"]
    means = set()
    for shift in range(len(texts)):
        items = [ScoringItem(str(index), "?", "1", "all") for index in range(len(texts))]
        rotated = [*texts[shift:], *texts[:shift]]
        _, card = score(items, [Prediction(str(index), text) for index, text in enumerate(rotated)], tenths)
        means.add((card.primary_score, card.stddev, card.section_scores["all"]))
    assert len(means) == 1


def test_the_files_hold_these_keys_in_this_order(tmp_path: Path) -> None:
    """A row of predictions.jsonl and scorecard.json, as strangers read them; the first metric is the default."""
    raw = {"id": "a", "text": "so\nAnswer: 1", "prompt_sha256": "ab", "prompt_tokens": 5, "new_tokens": 3,
           "finish_reason": "stop", "milliseconds": 1.5}  # fmt: skip
    (tmp_path / "p.jsonl").write_text(_lines(raw), encoding="utf-8")
    (tmp_path / "e.jsonl").write_text(_lines({**ITEM_ROW, "section": "core", "difficulty": "easy"}), encoding="utf-8")
    (row,), card = score_files(tmp_path / "p.jsonl", tmp_path / "e.jsonl")
    assert list(row.as_json().items()) == [
        ("id", "a"), ("prompt_sha256", "ab"), ("text", "so\nAnswer: 1"), ("extracted", "1"), ("expected", "1"),
        ("correct", 1.0), ("prompt_tokens", 5), ("new_tokens", 3), ("finish_reason", "stop"), ("milliseconds", 1.5),
    ]  # fmt: skip
    assert list(card.as_json().items()) == [
        ("metric", METRIC), ("n_items", 1), ("n_scored", 1), ("n_skipped", 0), ("primary_score", 1.0), ("stddev", 0.0),
        ("section_scores", {"core": 1.0}), ("category_scores", {}), ("difficulty_scores", {"easy": 1.0}),
    ]  # fmt: skip


def test_what_was_asked_stands_in_the_row_where_it_is_known() -> None:
    """The prompt is the last key, as it was rendered; the row of an item without a prediction has none."""
    asked, unanswered = score(ITEMS[:2], [Prediction("a", "1", prompt="Q: ?\nA:")], METRIC)[0]
    assert list(asked.as_json().items())[-1] == ("prompt", "Q: ?\nA:")
    assert "prompt" not in unanswered.as_json()


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
