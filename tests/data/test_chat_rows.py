"""Conversations: which answers their messages say are trained, and that no key of a message vanishes."""

from __future__ import annotations

import pytest

from engine.data import check_dataset, marked, read_rows, render_row
from engine.errors import InputInvalid

USER = {"role": "user", "content": "u"}


def chat(*messages, **more):
    return {"messages": list(messages), **more}


def answer(text="a", **more):
    return {"role": "assistant", "content": text, **more}


def findings(path, form="chat"):
    with pytest.raises(InputInvalid) as caught:
        read_rows(path, form)
    return [(d.code, d.where.path) for d in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("said", "trained"),
    [
        ({}, True),
        ({"weight": 0}, False),
        ({"weight": 1}, True),
        ({"weight": 0.0}, False),
        ({"weight": 1.0}, True),
        ({"weight": None}, True),
        ({"train": False}, False),
        ({"train": True}, True),
        ({"training": False}, False),
        ({"loss": False}, False),
        ({"weight": 0, "train": False}, False),
        ({"weight": 1, "loss": None}, True),
    ],
)
def test_a_message_says_whether_it_is_trained(jsonl, said, trained):
    """weight 0 or 1, train true or false; null says nothing; the other answers are trained as before."""
    (row,) = read_rows(jsonl(chat(USER, answer("first", **said), USER, answer("last"))), "chat")
    assert [message.train for message in row.body.messages] == [True, trained, True, True]
    rendered = render_row(row)
    assert [part.text for part in rendered.segments if part.train] == [
        *(["first<end_of_turn>"] if trained else []),
        "last<end_of_turn>",
    ]
    assert row.unused == ()


def test_what_is_not_trained_is_written_and_shown(jsonl):
    """dataset.jsonl and rows.jsonl keep the choice; dataset check shows the answer outside the marks."""
    path = jsonl(chat(USER, answer("BAD", weight=0), USER, answer("good", weight=1)))
    (row,) = read_rows(path, "chat")
    written = [USER, {**answer("BAD"), "train": False}, USER, answer("good")]
    assert row.body.as_json() == {"messages": written}
    assert render_row(row).as_json()["messages"] == written
    report = check_dataset(path, "chat")
    assert report.ok
    assert report.as_json()["unused_fields"] == {}
    assert marked(report.sample) == (
        "<bos><start_of_turn>user\nu<end_of_turn>\n<start_of_turn>model\nBAD<end_of_turn>"
        "\n<start_of_turn>user\nu<end_of_turn>\n<start_of_turn>model\n[trained>good<end_of_turn><trained]"
    )


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"weight": 0.5}, "messages[1].weight"),
        ({"weight": 2}, "messages[1].weight"),
        ({"weight": -1}, "messages[1].weight"),
        ({"weight": "0"}, "messages[1].weight"),
        ({"weight": False}, "messages[1].weight"),
        ({"weight": []}, "messages[1].weight"),
        ({"train": 0}, "messages[1].train"),
        ({"train": "false"}, "messages[1].train"),
        ({"loss": 0.3}, "messages[1].loss"),
        ({"weight": 0, "train": True}, "messages[1]"),
    ],
)
def test_anything_else_is_refused_by_name(jsonl, said, path):
    """A fraction, a text, the wrong kind of yes, or two keys that contradict each other."""
    assert findings(jsonl(chat(USER, answer(**said)))) == [("D132", path)]


def test_only_answers_are_trained(jsonl):
    """A question that asks to be trained is refused; one that says it is not trained is what it is anyway."""
    path = jsonl(chat({**USER, "weight": 1}, answer()), chat({**USER, "train": True}, answer()))
    assert findings(path) == [("D132", "messages[0].weight"), ("D132", "messages[0].train")]
    (row,) = read_rows(jsonl(chat({**USER, "weight": 0}, answer())), "chat")
    assert row.body.as_json() == {"messages": [USER, answer()]}


def test_a_conversation_that_trains_nothing_is_refused(jsonl):
    """Every answer with weight 0 leaves nothing to train on."""
    assert findings(jsonl(chat(USER, answer(weight=0), USER, answer(train=False)))) == [("D130", "messages")]


def test_a_key_with_a_part_of_the_answer_is_refused(jsonl):
    """tool_calls and train_detail are not left out; empty ones, as exports of tables have them, are counted."""
    path = jsonl(
        chat(USER, answer(tool_calls=[{"id": "1"}])),
        chat(USER, answer(function_call={"name": "f"})),
        chat(USER, answer(train_detail=[{"begin_offset": 0}])),
    )
    assert findings(path) == [
        ("D133", "messages[1].tool_calls"),
        ("D133", "messages[1].function_call"),
        ("D133", "messages[1].train_detail"),
    ]
    (row,) = read_rows(jsonl(chat(USER, answer(tool_calls=None, function_call=None))), "chat")
    assert row.unused == ("messages[].tool_calls", "messages[].function_call")


def test_every_other_key_is_counted_by_its_path(jsonl):
    """In the row, its messages and their parts; each path once a row."""
    part = [{"type": "text", "text": "u", "cache_control": {"type": "ephemeral"}}]
    path = jsonl(
        chat({**USER, "name": "Ann", "content": part}, answer(name="Bot", thinking="…"), content="?", weight=0.5),
        chat({**USER, "name": "Ann"}, answer()),
    )
    assert check_dataset(path, "chat").as_json()["unused_fields"] == {
        "content": 1,
        "weight": 1,
        "messages[].content[].cache_control": 1,
        "messages[].name": 2,
        "messages[].thinking": 1,
    }


def test_paths_have_the_persons_own_keys(jsonl):
    """With mapped keys too; a key that a field is mapped to has no other meaning."""
    row = {"talk": [{"from": "user", "train": "u", "x": 1}, {"from": "assistant", "train": "a", "weight": 1}]}
    (read,) = read_rows(jsonl(row), "chat", {"messages": "talk", "role": "from", "content": "train"})
    assert read.unused == ("talk[].x",)
    assert read.body.as_json() == {"messages": [USER, answer()]}


def test_keys_of_trace_steps_are_counted(jsonl):
    """A step's own notes are counted by their path; meta is kept in the row."""
    steps = [{"i": 1, "type": "t", "content": "s", "score": 1}, {"i": 2, "content": "s2", "score": 2}]
    (row,) = read_rows(
        jsonl({"prompt": "p", "steps": steps, "final_answer": "1", "role": "x", "meta": {"y": 1}}), "trace"
    )
    assert row.unused == ("role", "steps[].score")


def test_one_text_part_is_its_text(jsonl):
    """Lists of one text part are read as that text; all other lists are refused by their parts."""
    (row,) = read_rows(jsonl(chat({**USER, "content": [{"type": "text", "text": "u"}]}, answer())), "chat")
    assert row.body.as_json() == {"messages": [USER, answer()]}
    for content in ([], ["u"], [{"type": "image_url"}], [{"type": "text", "text": "a"}] * 2, [{"type": "text"}]):
        assert findings(jsonl(chat({**USER, "content": content}, answer()))) == [("D121", "messages[0].content")]
    blank = chat({**USER, "content": [{"type": "text", "text": " "}]}, answer())
    assert findings(jsonl(blank)) == [("D122", "messages[0].content[0].text")]


def test_an_answer_of_several_lines_is_a_row_like_any(jsonl):
    """A trace's final answer may be a list; only an eval item is bound to its metric's rule."""
    listed = "1. first\n2. second"
    path = jsonl({"prompt": "p", "steps": ["s"], "final_answer": listed})
    (row,) = read_rows(path, "trace")
    assert row.body.final_answer == listed
    assert render_row(row).segments[1].text == "s\nAnswer: 1. first\n2. second"
    assert check_dataset(path, "trace").ok


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"messages": [USER, answer(trainable=False)]}, "messages[].trainable"),
        ({"messages": [USER, answer(loss_weight=0.0)]}, "messages[].loss_weight"),
        ({"messages": [USER, answer(Weight=0)]}, "messages[].Weight"),
        ({"messages": [USER, answer(loss_mask=[1, 0])]}, "messages[].loss_mask"),
        (
            {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "Ho", "weight": 0}]}]},
            "messages[].content[].weight",
        ),
        ({"messages": [USER, answer()], "weight": 0}, "weight"),
        ({"messages": [USER, answer()], "train": "False"}, "train"),
    ],
)
def test_what_says_not_to_be_trained_is_never_trained(jsonl, row, place):
    """Nothing is read from these keys: the row is refused, not trained as if they were not there."""
    with pytest.raises(InputInvalid) as caught:
        read_rows(jsonl(row), "chat")
    (found,) = caught.value.diagnostics
    assert (found.code, found.where.path) == ("D134", place)
    assert found.message == (
        f'"{place}" says not to train this, and nothing is read from that key: it would be trained'
    )


def test_the_other_formats_refuse_it_too(jsonl):
    pair = {"prompt": "a", "completion": "b", "trainable": 0}
    trace = {"prompt": "a", "steps": [{"content": "b", "train": False}], "final_answer": "c"}
    for row, form in ((pair, "prompt_completion"), (trace, "trace")):
        with pytest.raises(InputInvalid, match="D134"):
            read_rows(jsonl(row), form)


def test_a_switch_that_changes_nothing_is_counted_like_any_key(jsonl):
    """It says yes, or it says no of a text that is not trained anyway."""
    messages = [{**USER, "trainable": False}, answer(trainable=True), USER, answer(weight=0, trainable=False)]
    path = jsonl({"messages": messages, "weight": 72.5, "train": None})
    assert read_rows(path, "chat")[0].unused == ("weight", "train", "messages[].trainable")
