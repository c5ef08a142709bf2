"""The three renders, pinned by vectors: a changed text must be another version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data import (
    RENDER_OF,
    Conversation,
    DatasetRow,
    Message,
    PromptCompletion,
    RenderedSegment,
    Trace,
    TraceStep,
    completion_of,
    render_prompt,
    render_rows,
)
from engine.errors import InputInvalid


def trace(answer="4", *contents):
    steps = tuple(TraceStep(i, "compute", text) for i, text in enumerate(contents, start=1))
    return Trace("2 + 2 = ?", steps, answer)


TURN = "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
U, A, S = (lambda text, role=role: Message(role, text) for role in ("user", "assistant", "system"))

# body, (text, trained) of each segment
VECTORS = [
    (
        trace("4", "two and two", "2 + 2 = 4"),
        [("2 + 2 = ?\n", False), ("two and two\n2 + 2 = 4\nAnswer: 4", True)],
    ),
    (trace("4", "one\ntwo"), [("2 + 2 = ?\n", False), ("one\ntwo\nAnswer: 4", True)]),
    (trace("café", "é"), [("2 + 2 = ?\n", False), ("é\nAnswer: café", True)]),
    (PromptCompletion("Say hi", "hi"), [("Say hi\n", False), ("hi", True)]),
    (PromptCompletion("a\n", " b "), [("a\n\n", False), (" b ", True)]),
    (Conversation((U("hi"), A("ho"))), [(TURN.format("hi"), False), ("ho<end_of_turn>", True)]),
    (
        Conversation((S("be brief"), U("hi"), A("ho"))),
        [(TURN.format("be brief\n\nhi"), False), ("ho<end_of_turn>", True)],
    ),
    (
        Conversation((S("s"), U("a"), A("b"), U("c"), A("d"))),
        [
            (TURN.format("s\n\na"), False),
            ("b<end_of_turn>", True),
            ("\n" + TURN.format("c"), False),
            ("d<end_of_turn>", True),
        ],
    ),
]


@pytest.mark.parametrize(("body", "segments"), VECTORS)
def test_vectors(body, segments):
    row = DatasetRow("r", body)
    name, (rendered,) = render_rows([row], row.format)
    assert name == RENDER_OF[row.format]
    assert rendered.segments == tuple(RenderedSegment(text, train) for text, train in segments)


PROMPTS = [
    ("reasoning@v1", "2 + 2 = ?", "2 + 2 = ?\n"),
    ("reasoning@v1", "", "\n"),
    ("plain@v1", "2 + 2 = ?", "2 + 2 = ?\n"),
    ("messages@v1", "hi", "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"),
    ("gemma_chat@v1", "hi", "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n"),
]


@pytest.mark.parametrize(("render", "prompt", "text"), PROMPTS)
def test_the_text_to_generate_from_is_pinned(render, prompt, text):
    assert render_prompt(render, prompt) == text


def test_an_unknown_render_is_refused_with_the_nearest_name():
    with pytest.raises(InputInvalid) as caught:
        render_prompt("reasoning@v2", "p")
    assert (caught.value.code, caught.value.hint) == ("D307", 'did you mean "reasoning@v1"?')


TEXT = st.text(min_size=1, max_size=20)


@given(prompt=TEXT, steps=st.lists(TEXT, min_size=1, max_size=3), answer=TEXT)
def test_a_model_is_asked_in_exactly_the_text_it_was_trained_after(prompt, steps, answer):
    """The untrained part of a training row is the prompt of an eval item, byte for byte."""
    body = Trace(prompt, tuple(TraceStep(i, "t", text) for i, text in enumerate(steps, 1)), answer)
    _, (row,) = render_rows([DatasetRow("r", body)], "trace")
    assert row.segments[0].text == render_prompt("reasoning@v1", prompt)
    assert row.segments[-1].text == completion_of(body)
    assert row.text.endswith(f"\nAnswer: {answer}")


@given(turns=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_every_assistant_turn_is_trained_and_nothing_else(turns):
    messages = tuple(m for user, answer in turns for m in (U(user), A(answer)))
    _, (row,) = render_rows([DatasetRow("r", Conversation(messages))], "chat")
    trained = [segment.text for segment in row.segments if segment.train]
    assert trained == [f"{answer}<end_of_turn>" for _, answer in turns]
