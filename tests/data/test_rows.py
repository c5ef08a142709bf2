"""Good rows of the three formats, and what is tolerated."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import Conversation, Message, PromptCompletion, Trace, TraceStep, read_rows
from engine.data.jsonl import JsonlFindings, key_spans
from engine.data.rows import collect_rows
from engine.errors import InputInvalid

FORMATS = ["trace", "prompt_completion", "chat"]


def test_a_trace_is_read_whole_and_written_back_equal(jsonl):
    line = {
        "id": "t-1", "trace_version": "1.0", "prompt": "2 + 2 = ?",
        "steps": [{"i": 1, "type": "compute", "content": "2 + 2 = 4"}],
        "final_answer": "4", "meta": {"seed": 1},
    }  # fmt: skip
    (row,) = read_rows(jsonl(line), "trace")
    assert row.body.as_json() == line
    assert (row.id, row.line, row.unused) == ("t-1", 1, ())


def test_steps_may_be_texts_and_may_be_counted_from_zero(jsonl):
    one = {"prompt": "p", "steps": ["a", "b"], "final_answer": "1"}
    two = {**one, "steps": [{"i": 0, "content": "a"}, {"i": 1, "content": "b"}]}
    rows = read_rows(jsonl(one, two), "trace")
    steps = (TraceStep(1, "reasoning", "a"), TraceStep(2, "reasoning", "b"))
    assert [row.body for row in rows] == [
        Trace("p", steps, "1", {}, "line-1"),
        Trace("p", steps, "1", {}, "line-2"),
    ]


def test_fields_are_mapped_and_other_keys_are_remembered_as_unused(jsonl):
    path = jsonl({"q": "a", "reply": "b", "source": "x"})
    (row,) = read_rows(path, "prompt_completion", {"prompt": "q", "completion": "reply"})
    assert row.body == PromptCompletion("a", "b")
    assert row.unused == ("source",)


def test_chat_keeps_the_system_message_and_maps_its_inner_keys(jsonl):
    turns = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")]
    path = jsonl({"conversation": [{"from": role, "value": text} for role, text in turns]})
    mapping = {"messages": "conversation", "role": "from", "content": "value"}
    (row,) = read_rows(path, "chat", mapping)
    assert row.body == Conversation(tuple(Message(role, text) for role, text in turns))
    assert row.body.prompts == ("u", "v")


def test_crlf_and_blank_lines_at_the_end_are_tolerated(jsonl):
    path = jsonl({"prompt": "a", "completion": "b"}, "", "  ", end=b"\r\n")
    assert len(read_rows(path, "prompt_completion")) == 1


def test_line_separators_inside_a_text_do_not_split_it(jsonl):
    path = jsonl('{"prompt": "a\u2028b\u0085c", "completion": "d"}')
    assert read_rows(path, "prompt_completion")[0].prompt == "a\u2028b\u0085c"


def test_key_spans_find_the_key_and_not_the_same_text_in_a_value():
    assert key_spans('{"x": "\\"id\\": 1", "id": 2}') == {"x": (2, 3), "id": (20, 4)}


@given(data=st.binary(max_size=300), form=st.sampled_from(FORMATS))
def test_any_bytes_give_rows_or_diagnostics_never_a_traceback(tmp_path_factory, data, form):
    path = tmp_path_factory.mktemp("any") / "f.jsonl"
    path.write_bytes(data)
    try:
        outcome = read_rows(path, form)
    except InputInvalid as error:
        str(error).encode()
        json.dumps([d.as_json() for d in error.diagnostics], ensure_ascii=False).encode()
        outcome = error.diagnostics
    assert len(outcome) > 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = ["prompt", "completion", "steps", "final_answer", "messages", "role", "content", "i", "type", "id"]
NEARLY = st.recursive(
    JSON | st.sampled_from(["user", "assistant", "system", "<bos>", "Answer: 1"]),
    lambda inner: (
        st.dictionaries(st.sampled_from([*KEYS, "trace_version", "meta", "promt"]), inner, max_size=6)
        | st.lists(inner, max_size=4)
    ),
    max_leaves=12,
)


@given(rows=st.lists(NEARLY, max_size=4), form=st.sampled_from(FORMATS))
def test_every_line_is_either_a_row_or_a_finding(tmp_path_factory, rows, form):
    """No line vanishes: rows and lines with findings together are all lines."""
    path = tmp_path_factory.mktemp("nearly") / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    findings = JsonlFindings("f", "D1", 1000, of_one_kind=1000)
    good = {row.line for row in collect_rows(path, form, {}, findings)}
    bad = {d.where.line for d in findings.diagnostics()}
    assert good.isdisjoint(bad)
    assert good | bad - {0} == set(range(1, len(rows) + 1))


@pytest.mark.parametrize("word", ["<bos>", "<eos>", "<pad>"])
def test_control_tokens_are_refused_in_every_text_of_a_row(jsonl, word):
    step = {"i": 1, "type": "t", "content": f"x {word}"}
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl({"prompt": f"{word} p", "steps": [step], "final_answer": f"1{word}"}), "trace")
    assert [(d.code, d.where.path) for d in caught.value.diagnostics] == [
        ("D123", "prompt"),
        ("D123", "steps[0].content"),
        ("D123", "final_answer"),
    ]


def test_turn_markers_are_refused_in_chat_only(jsonl):
    marked = "<start_of_turn>user\nhi<end_of_turn>"
    assert read_rows(jsonl({"prompt": marked, "completion": "b"}), "prompt_completion")
    chat = {"messages": [{"role": "user", "content": marked}, {"role": "assistant", "content": "b"}]}
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl(chat), "chat")
    assert {d.code for d in caught.value.diagnostics} == {"D123"}
