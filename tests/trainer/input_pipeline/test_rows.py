"""rows.jsonl -> token rows: the tokens, and which of them are trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.trainer.input_pipeline.rows import RowFindings, TokenRow, token_rows
from engine.trainer.text.tokenizer import build_chars

CHARS = build_chars()
BOS, EOS = CHARS.bos_id, CHARS.eos_id


@pytest.fixture
def read() -> Callable[..., list[TokenRow]]:
    def run(*rows: Any) -> list[TokenRow]:
        text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        findings = RowFindings("rows.jsonl")
        token_rows_ = token_rows(text.encode(), 1, CHARS, findings)
        findings.raise_if_any()
        return token_rows_

    return run


def row(*segments: tuple[str, bool], row_id: str = "a") -> dict[str, Any]:
    return {"id": row_id, "segments": [{"text": text, "train": train} for text, train in segments]}


def test_a_row_is_bos_prompt_answer_eos(read: Callable[..., list[TokenRow]]) -> None:
    """BOS comes once and is not trained; the answer and its EOS are."""
    (found,) = read(row(("ab", False), ("c", True)))
    assert found.tokens == (BOS, *CHARS.encode("ab"), *CHARS.encode("c"), EOS)
    assert found.loss_mask == (0, 0, 0, 1, 1)


def test_eos_comes_once_at_the_end(read: Callable[..., list[TokenRow]]) -> None:
    """Between the turns of a conversation is what the rendering wrote there, nothing else."""
    (found,) = read(row(("u", False), ("x", True), ("v", False), ("y", True), ("z", True)))
    u, x, v, y, z = (CHARS.encode(letter)[0] for letter in "uxvyz")
    assert found.tokens == (BOS, u, x, v, y, z, EOS)
    assert found.loss_mask == (0, 0, 1, 0, 1, 1, 1)


def test_what_follows_the_last_trained_segment_is_left_out(read: Callable[..., list[TokenRow]]) -> None:
    """Text after the last trained token changes no loss, and is not trained on."""
    (found,) = read(row(("a", False), ("b", True), ("tail", False)))
    assert found.tokens == (BOS, CHARS.encode("a")[0], CHARS.encode("b")[0], EOS)


def test_segments_are_tokenised_apart() -> None:
    """No token spans the boundary of two segments, even if the joined text would have one."""

    class Merging:
        bos_id, eos_id, turn_end_ids = 2, 1, frozenset({1})

        def encode_many(self, texts: list[str]) -> list[list[int]]:
            return [[99] if text == "ab" else [ord(letter) for letter in text] for text in texts]

    from engine.trainer.input_pipeline.rows import Segment, token_row

    segments = [Segment("a", False), Segment("b", True)]
    ids = Merging().encode_many([segment.text for segment in segments])
    assert token_row("r", segments, ids, Merging()).tokens == (2, ord("a"), ord("b"), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("segments", [[("a", False)], [("a", False), ("", True)], []])
def test_a_row_without_trained_text_is_refused(read: Callable[..., list[TokenRow]], segments: Any) -> None:
    """An answer that is empty or not marked as trained is an error that names the row; EOS alone teaches nothing."""
    with pytest.raises(InputInvalid, match='row "bad" has no trained token') as caught:
        read(row(("p", False), ("x", True)), row(*segments, row_id="bad"))
    (found,) = caught.value.diagnostics
    assert (found.code, found.where and found.where.line) == ("T111", 2)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "null",
        '{"id": "a"}',
        '{"id": "a", "segments": [{"text": 5, "train": true}]}',
        '"x"',
        '{"id": "a", "segments": [{"text": "lone surrogate: \\ud83d", "train": true}]}',
    ],
)
def test_a_broken_line_is_named(read: Callable[..., list[TokenRow]], line: str) -> None:
    """A line that is not a row is reported with its number."""
    with pytest.raises(InputInvalid) as caught:
        read(row(("p", False), ("x", True)), line)
    (found,) = caught.value.diagnostics
    assert (found.code, found.where and found.where.line) == ("T110", 2)


def test_many_broken_lines_are_counted(read: Callable[..., list[TokenRow]]) -> None:
    """Twenty are shown, the others counted."""
    with pytest.raises(InputInvalid) as caught:
        read(*["{"] * 25)
    assert len(caught.value.diagnostics) == 21
    assert caught.value.diagnostics[-1].message == "and 5 more rows"


def test_findings_of_parts_are_those_of_the_file() -> None:
    """Read part by part, a file's findings are numbered and counted as when it is read at once."""
    whole, parts = RowFindings("f"), RowFindings("f")
    token_rows(b"\n".join([b"{"] * 30), 1, CHARS, whole)
    for first in (1, 11, 21):
        part = RowFindings("f")
        token_rows(b"\n".join([b"{"] * 10), first, CHARS, part)
        parts.extend(part.shown, part.total)
    assert (parts.shown, parts.total) == (whole.shown, whole.total)
