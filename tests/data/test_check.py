"""``dataset check``: the trained part is shown, and rows without trained tokens are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import (
    BUILDERS,
    RenderedRow,
    RenderedSegment,
    Tokenized,
    build,
    check_dataset,
    marked,
    render_rows,
    trace_rows,
)
from engine.data.check import tokenize_characters

PROMPT, ANSWER = RenderedSegment("p\n", False), RenderedSegment("a", True)
TRACE = {"prompt": "2 + 2 = ?", "steps": ["2 + 2 = 4"], "final_answer": "4", "note": "x"}


def codes(*rows, tokenize=None):
    return [d.code for d in check_dataset(list(rows), tokenize=tokenize).diagnostics]


def test_a_good_file_is_shown_with_its_trained_part_marked(jsonl):
    report = check_dataset(jsonl(TRACE), "trace")
    assert report.ok
    shown = "<bos>2 + 2 = ?\n[trained>2 + 2 = 4\nAnswer: 4<eos><trained]"
    assert report.text().endswith(shown)
    assert "keys that nothing is read from: note (1 rows)" in report.text()
    assert report.as_json()["sample"] == {"id": "line-1", "text": shown}
    json.dumps(report.as_json())


def test_on_a_terminal_the_trained_part_is_green(jsonl):
    text = check_dataset(jsonl(TRACE), "trace").text(color=True)
    assert "\x1b[32m2 + 2 = 4\nAnswer: 4<eos>\x1b[0m" in text
    assert "[trained>" not in text


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_built_dataset_passes(name):
    _, rendered = render_rows(trace_rows(build(name, seed=42)), "trace")
    report = check_dataset(rendered)
    assert report.ok
    assert report.n_duplicates == 0
    assert report.n_rows == len(rendered)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (RenderedRow("r", (PROMPT, RenderedSegment("a", False))), "D140"),
        (RenderedRow("r", (PROMPT,)), "D140"),
        (RenderedRow("r", (PROMPT, RenderedSegment(" \n", True))), "D140"),
        (RenderedRow("r", (RenderedSegment("<bos>p", False), ANSWER)), "D142"),
        (RenderedRow("r", (PROMPT, RenderedSegment("a<bos>", True))), "D142"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(row, code):
    assert codes(row) == [code]


GOOD = Tokenized(("<bos>", "p", "a", "<eos>"), (0, 0, 1, 1))


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        (GOOD, []),
        (Tokenized(("p", "a", "<eos>"), (0, 1, 1)), ["D141"]),
        (Tokenized(("<bos>", "<bos>", "a", "<eos>"), (0, 0, 1, 1)), ["D142"]),
        (Tokenized(("p", "<bos>", "a", "<eos>"), (0, 0, 1, 1)), ["D141"]),
        (Tokenized(("<bos>", "p", "a", "<eos>"), (0, 0, 1, 0)), ["D143"]),
        (Tokenized(("<bos>", "p", "a"), (0, 0, 1)), ["D143"]),
        (Tokenized(("<bos>", "p", "a", "<eos>"), (0, 0, 0, 1)), ["D140"]),
        (Tokenized(("<bos>", "p"), (0, 0, 1)), ["D144"]),
        (Tokenized(("<s>", "p", "a", "</s>"), (0, 0, 1, 1), bos="<s>", eos="</s>"), []),
        ((("<bos>", "p", "a", "<eos>"), (0, 0, 1, 1)), []),
        (Tokenized(("<bos>", "p", "a", "<end_of_turn>"), (0, 0, 1, 1)), []),
        (Tokenized(("<bos>", "p", "a", "<end_of_turn>"), (0, 0, 1, 0)), ["D143"]),
        (Tokenized(("<bos>", "p", "<end_of_turn>"), (0, 0, 1)), ["D140"]),
        (Tokenized(("<bos>", "p", "a", "</turn>"), (0, 0, 1, 1), end_of_turn="</turn>"), []),
    ],
)
def test_with_a_tokenizer_the_same_laws_hold_on_its_tokens(tokens, found):
    row = RenderedRow("r", (PROMPT, ANSWER))
    assert codes(row, tokenize=lambda _: tokens) == found
    assert check_dataset([row], tokenize=lambda _: tokens).unit == "tokens"


def test_findings_name_file_line_and_row(jsonl):
    report = check_dataset(jsonl(TRACE, {"prompt": "x"}), "trace")
    assert [(d.code, d.where.line) for d in report.diagnostics] == [("D120", 2), ("D120", 2)]
    assert report.n_rows == 1


def test_the_report_never_raises(tmp_path):
    assert check_dataset(tmp_path / "none").diagnostics[0].code == "D101"
    assert check_dataset(tmp_path / "none", "tracer").diagnostics[0].code == "D117"
    assert check_dataset([]).n_rows == 0


def test_multi_turn_rows_train_every_answer_and_the_end_of_its_turn(jsonl):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    report = check_dataset(jsonl({"messages": [{"role": r, "content": t} for r, t in turns]}), "chat")
    assert report.ok
    assert marked(report.sample).count("[trained>") == 2
    assert marked(report.sample).count("<end_of_turn><trained]") == 2
    assert "<eos>" not in report.sample.tokens


SEGMENTS = st.lists(st.tuples(st.text(max_size=10), st.booleans()), min_size=1, max_size=5)


@given(SEGMENTS)
def test_marking_loses_no_text_and_marks_what_is_trained(parts):
    row = RenderedRow("r", tuple(RenderedSegment(text, train) for text, train in parts))
    tokens = tokenize_characters(row)
    last = max((at for at, (_, train) in enumerate(parts) if train), default=len(parts))
    text = "".join(text for text, _ in parts[: last + 1])  # what follows the last trained text is not fed
    assert "".join(tokens.tokens).replace("<eos>", "").removeprefix("<bos>") == text
    trained = "".join(t for t, m in zip(tokens.tokens, tokens.loss_mask, strict=True) if m)
    expected = "".join(s.text for s in row.segments if s.train)
    assert trained.replace("<eos>", "") == expected
    shown = marked(tokens)
    assert shown.count("[trained>") == shown.count("<trained]")
