"""Rows → the text that is trained: three versioned renders.

In: rows of one format. Out: segments of text, each trained or not. The text of a render never
changes: another text is another version, because a model answers only in the form that it
was trained on.

========================  =====================================================  ============================
render                    not trained                                            trained
========================  =====================================================  ============================
``reasoning@v1``          ``{prompt}\\n``                                         steps, one a line, ``Answer: X``
``plain@v1``              ``{prompt}\\n``                                         the completion
``messages@v1``           the messages, by the model's chat template; ``gemma_chat@v1`` where it has none:
------------------------  ------------------------------------------------------------------------------------
``gemma_chat@v1``         ``<start_of_turn>user\\n…<end_of_turn>\\n``              each answer and its
                          ``<start_of_turn>model\\n``                             ``<end_of_turn>``
========================  =====================================================  ============================

A conversation keeps its messages beside the segments, which are ``gemma_chat@v1``'s: a checkpoint with a chat template
of its own (chat_template.jinja) renders the messages itself, and the questions of the eval set too. Which of the two it
was is known where the model is: the training report and ``dataset check --model`` say it (``rendered_by``).

    >>> render_prompt("reasoning@v1", "2 + 2 = ?")
    '2 + 2 = ?\\n'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from engine.data.model import (
    Conversation,
    DatasetRow,
    Message,
    PromptCompletion,
    RenderedRow,
    RenderedSegment,
    RowFormat,
    Trace,
)
from engine.errors import InputInvalid, did_you_mean

ANSWER_PREFIX = "Answer: "

RENDER_OF: Mapping[RowFormat, str] = {
    "trace": "reasoning@v1",
    "prompt_completion": "plain@v1",
    "chat": "messages@v1",
}
OF_MESSAGES = ("messages@v1", "gemma_chat@v1")  # the second: datasets that an earlier version built


def render_rows(rows: Iterable[DatasetRow], format: RowFormat) -> tuple[str, list[RenderedRow]]:
    """The name of the format's render, and every row rendered by it."""
    return RENDER_OF[format], [render_row(row) for row in rows]


def render_row(row: DatasetRow) -> RenderedRow:
    """One row by the render of its format."""
    messages = row.body.messages if isinstance(row.body, Conversation) else ()
    return RenderedRow(row.id, segments_of(row.body), messages)


def segments_of(body: Trace | PromptCompletion | Conversation) -> tuple[RenderedSegment, ...]:
    """The segments of a row, in order; none of them is empty."""
    if isinstance(body, Conversation):
        return _chat_segments(body)
    name = RENDER_OF["trace" if isinstance(body, Trace) else "prompt_completion"]
    return RenderedSegment(render_prompt(name, body.prompt), False), RenderedSegment(completion_of(body), True)


def completion_of(body: Trace | PromptCompletion) -> str:
    """The text that the model learns to write after the rendered prompt."""
    if isinstance(body, PromptCompletion):
        return body.completion
    steps = "\n".join(step.content for step in body.steps)
    return f"{steps}\n{ANSWER_PREFIX}{body.final_answer}"


def render_prompt(render: str, prompt: str) -> str:
    """The text to generate from, for one question of an eval set: of a conversation by ``gemma_chat@v1``. Raises InputInvalid."""
    if render not in _PROMPTS:
        near = did_you_mean(render, _PROMPTS)
        hint = f'did you mean "{near}"?' if near else f"one of {', '.join(_PROMPTS)}"
        raise InputInvalid("D307", f'unknown render "{render}"', hint=hint)
    return _PROMPTS[render](prompt)


def prompt_messages(render: str, prompt: str) -> tuple[Message, ...]:
    """The same question as messages, for a model with a chat template of its own; empty for other renders."""
    return (Message("user", prompt),) if render in OF_MESSAGES else ()


def _chat_turn(content: str) -> str:
    return f"<start_of_turn>user\n{content}<end_of_turn>\n<start_of_turn>model\n"


def _chat_segments(body: Conversation) -> tuple[RenderedSegment, ...]:
    # Gemma has no system turn: its template puts the system text before the first user turn.
    messages = list(body.messages)
    system = messages.pop(0).content + "\n\n" if messages[0].role == "system" else ""
    segments: list[RenderedSegment] = []
    for user, answer in zip(messages[::2], messages[1::2], strict=True):
        between = "\n" if segments else ""
        segments.append(RenderedSegment(between + _chat_turn(system + user.content), False))
        segments.append(RenderedSegment(answer.content + "<end_of_turn>", answer.train))
        system = ""
    return tuple(segments)


_PROMPTS: Mapping[str, Callable[[str], str]] = {
    "reasoning@v1": lambda prompt: f"{prompt}\n",
    "plain@v1": lambda prompt: f"{prompt}\n",
    **dict.fromkeys(OF_MESSAGES, _chat_turn),
}
