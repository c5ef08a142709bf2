"""The law of prompts: a prompt has exactly the ids of the untrained part before the answer in a training row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data import (
    Conversation,
    DatasetRow,
    EvalItem,
    Message,
    PromptCompletion,
    Trace,
    TraceStep,
    render_row,
)
from engine.errors import InputInvalid
from engine.trainer.generation.prompts import read_prompts
from engine.trainer.input_pipeline import rows as rows_module
from engine.trainer.input_pipeline.rows import RowFindings, TokenRow
from engine.trainer.text.encoding import encode_segments, merged_boundaries, prompt_ids
from engine.trainer.text.segment import Segment
from engine.trainer.text.tokenizer import Tokenizer
from engine.trainer_process.jobs import write_prompts
from tests.examples import examples

NAMES = ("chars", "gemma", "gemma without template", "merging")
RENDERS = ("reasoning@v1", "plain@v1", "messages@v1")
ODD = st.sampled_from(["\n", "\n\n", " ", "  ", "▁▁", "<bos>", "é", "😀", "Answer: ", "12", "\t", "<table>"])
TEXT = st.lists(st.text(max_size=6) | ODD, min_size=1, max_size=5).map("".join).filter(lambda text: bool(text.strip()))


def row_of(render: str, prompt: str, answer: str) -> DatasetRow:
    if render == "reasoning@v1":
        return DatasetRow("r", Trace(prompt, (TraceStep(1, "compute", answer),), "4"))
    if render == "plain@v1":
        return DatasetRow("r", PromptCompletion(prompt, answer))
    return DatasetRow("r", Conversation((Message("user", prompt), Message("assistant", answer))))


@pytest.fixture
def token_rows() -> Callable[[Sequence[DatasetRow], Tokenizer], list[TokenRow]]:
    """Rows through rows.jsonl, as in the pipeline."""

    def make(rows: Sequence[DatasetRow], tokenizer: Tokenizer) -> list[TokenRow]:
        text, findings = "\n".join(json.dumps(render_row(row).as_json()) for row in rows), RowFindings("rows.jsonl")
        found = rows_module.token_rows(text.encode(), 1, tokenizer, findings)
        findings.raise_if_any()
        return found

    return make


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[str, str, Tokenizer], list[int]]:
    """The ids of a prompt, through the prompt file."""

    def ask(render: str, prompt: str, tokenizer: Tokenizer) -> list[int]:
        path = tmp_path / "prompts.jsonl"
        write_prompts(path, [EvalItem("i", prompt, "4")], render)
        (found,) = read_prompts(path)
        return prompt_ids(found.text, found.messages, tokenizer)

    return ask


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("render", RENDERS)
@settings(deadline=None, max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=TEXT, answer=TEXT)
def test_a_prompt_is_what_precedes_the_answer(
    tokenizers_by_name: dict[str, Tokenizer],
    token_rows: Any,
    asked: Any,
    name: str,
    render: str,
    prompt: str,
    answer: str,
) -> None:
    """For every rendering, tokenizer and text; one leading BOS; the row ends in a trained end token."""
    tokenizer = tokenizers_by_name[name]
    (row,) = token_rows([row_of(render, prompt, answer)], tokenizer)
    given_ids = list(row.tokens[: row.loss_mask.index(1)])
    assert asked(render, prompt, tokenizer) == given_ids
    assert row.tokens.count(tokenizer.bos_id) == 1
    assert row.tokens[0] == tokenizer.bos_id
    assert row.tokens[-1] in tokenizer.turn_end_ids
    assert row.loss_mask[-1] == 1


@settings(deadline=None, max_examples=examples(40))
@given(contents=st.lists(TEXT, min_size=2, max_size=6).filter(lambda found: len(found) % 2 == 0))
def test_every_turn_of_a_conversation_obeys_it(tokenizers_by_name: dict[str, Tokenizer], contents: list[str]) -> None:
    """The prompt after k turns has the ids before the k-th answer of the full conversation."""
    tokenizer = tokenizers_by_name["gemma"]
    assert tokenizer.chat is not None
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
    segments = tokenizer.chat.segments(messages)
    ids, begins, before = encode_segments(segments, tokenizer), [], [tokenizer.bos_id]
    for at, (segment, piece) in enumerate(zip(segments, ids, strict=True)):
        if segment.train and not segments[at - 1].train:
            begins.append(list(before))
        before += piece
    for at, begin in enumerate(begins):
        assert prompt_ids("", messages[: 2 * at + 1], tokenizer) == begin


@pytest.mark.parametrize(("name", "ends"), [("gemma", [10, 10]), ("gemma without template", [10, 10]), ("chars", [1])])
def test_the_ends_of_a_chat_that_are_trained(
    tokenizers_by_name: dict[str, Tokenizer], token_rows: Any, name: str, ends: list[int]
) -> None:
    """<end_of_turn> after each answer, and no EOS after it; where the vocabulary has none, EOS once, at the row's end."""
    body = Conversation(
        (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
    )
    tokenizer = tokenizers_by_name[name]
    (row,) = token_rows([DatasetRow("r", body)], tokenizer)
    trained = [token for token, on in zip(row.tokens, row.loss_mask, strict=True) if on]
    assert [token for token in trained if token in tokenizer.turn_end_ids] == ends
    assert (row.tokens[-1], row.loss_mask[-1]) == (ends[-1], 1)
    assert tokenizer.eos_id not in row.tokens[:-1]


def test_gemma_chat_is_gemmas_template(tokenizers_by_name: dict[str, Tokenizer], token_rows: Any) -> None:
    """Our own rendering gives the template's rows, system text included, where no message has space around it."""
    says = (Message("system", "Be brief."), Message("user", "2 + 2?"), Message("assistant", "4"))
    rows = [
        DatasetRow("one", Conversation(says)),
        DatasetRow("two", Conversation((*says, Message("user", "And\n\n3 + 3?"), Message("assistant", "6 😀")))),
        DatasetRow("three", Conversation(says[1:])),
    ]
    with_it, without = (
        token_rows(rows, tokenizers_by_name[name]) for name in ("gemma", "gemma without template")
    )  # fmt: skip
    assert with_it == without


def test_a_template_trims_what_our_render_keeps(tokenizers_by_name: dict[str, Tokenizer], token_rows: Any) -> None:
    """The checkpoint's own template decides: Gemma's strips the white space around a message."""
    rows = [DatasetRow("r", Conversation((Message("user", " a"), Message("assistant", "b\n"))))]
    trimmed = [DatasetRow("r", Conversation((Message("user", "a"), Message("assistant", "b"))))]
    gemma = tokenizers_by_name["gemma"]
    assert token_rows(rows, gemma) == token_rows(trimmed, gemma)
    assert token_rows(rows, tokenizers_by_name["chars"]) != token_rows(trimmed, tokenizers_by_name["chars"])


# A prompt always ends in "\n": an answer that begins with one would have made a single token of the two.
@pytest.mark.parametrize(
    ("name", "prompt", "answer", "merges"),
    [("gemma without template", "Go:\n", "\nx", 1), ("gemma without template", "Go:\n", "x", 0), ("chars", "a", "\n", 0),
     ("gemma without template", "th", "e", 1), ("gemma without template", "a ", "▁", 0)],
)  # fmt: skip
def test_a_merge_that_was_prevented_is_counted(
    tokenizers_by_name: dict[str, Tokenizer], name: str, prompt: str, answer: str, merges: int
) -> None:
    """One where the joined text has a token across the boundary; none where it has not."""
    row = (Segment(prompt, train=False), Segment(answer, train=True))
    assert merged_boundaries([row, row[:1]], tokenizers_by_name[name]) == [merges, 0]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=examples(40))
@given(rows=st.lists(st.lists(TEXT, min_size=2, max_size=4), min_size=1, max_size=4))
def test_the_count_is_that_of_the_plain_definition(
    tokenizers_by_name: dict[str, Tokenizer], name: str, rows: list[list[str]]
) -> None:
    """The check of character pairs misses no merge."""
    tokenizer = tokenizers_by_name[name]
    segments = [[Segment(text, train=bool(at % 2)) for at, text in enumerate(row)] for row in rows]
    plain = [
        sum(tokenizer.encode(one + two) != tokenizer.encode(one) + tokenizer.encode(two) for one, two in pairwise(row))
        for row in rows
    ]
    assert merged_boundaries(segments, tokenizer) == plain


def test_rows_carry_their_count(tokenizers_by_name: dict[str, Tokenizer], token_rows: Any) -> None:
    """Each row has the number of merges that its boundaries prevented."""
    rows = [DatasetRow("a", PromptCompletion("Go:", "\nx")), DatasetRow("b", PromptCompletion("Go:", "x"))]
    assert [row.boundary_merges for row in token_rows(rows, tokenizers_by_name["gemma"])] == [1, 0]


def test_a_refused_conversation_is_named(with_template: Callable[[str], Tokenizer], token_rows: Any) -> None:
    """Every row that the template refuses, with its line, and the rows around it are still checked."""
    tokenizer = with_template("{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
                              "{% for m in messages %}{{ m.content }};{% endfor %}")  # fmt: skip
    system, user, answer = Message("system", "s"), Message("user", "u"), Message("assistant", "a")
    rows = [DatasetRow("good", Conversation((user, answer))), DatasetRow("bad", Conversation((system, user, answer)))]
    with pytest.raises(InputInvalid) as caught:
        token_rows(rows, tokenizer)
    (found,) = caught.value.diagnostics
    assert (found.code, found.where and found.where.line) == ("M306", 2)
    assert found.message == 'row "bad": the model\'s chat template refuses the conversation: no system turn'
