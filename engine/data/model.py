"""The values of ``engine.data``: rows, rendered rows, eval items. All frozen, all with a JSON form.

In: text that a reader has checked, or the output of a builder. Out: values that need no
further checks.

    >>> pair = PromptCompletion("2 + 2 = ?", "4")
    >>> DatasetRow("line-1", pair).prompt
    '2 + 2 = ?'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from engine.canonical import JsonMapping, JsonObject

TRACE_VERSION = "1.0"

RowFormat = Literal["trace", "prompt_completion", "chat"]
Difficulty = Literal["easy", "medium", "hard"]
Policy = Literal["keep", "drop", "fail"]  # of duplicates and overlaps

ROW_FORMATS: tuple[RowFormat, ...] = ("trace", "prompt_completion", "chat")
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")

# Texts that a tokenizer reads as control tokens. The engine adds the first group itself, once each;
# in chat rows it adds the turn markers too.
CONTROL_LITERALS = ("<bos>", "<eos>", "<pad>")
TURN_LITERALS = ("<start_of_turn>", "<end_of_turn>")


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step of reasoning. ``i`` counts from 1; ``type`` is free text (understand, compute, check, …)."""

    i: int
    type: str
    content: str

    def as_json(self) -> JsonObject:
        """``{"i", "type", "content"}``."""
        return {"i": self.i, "type": self.type, "content": self.content}


@dataclass(frozen=True, slots=True)
class Trace:
    """A question, the reasoning, a short exact answer (schemas/trace.schema.json)."""

    prompt: str
    steps: tuple[TraceStep, ...]
    final_answer: str
    meta: JsonMapping = field(default_factory=dict)
    id: str | None = None
    trace_version: str = TRACE_VERSION

    @property
    def prompts(self) -> tuple[str, ...]:
        """The questions that an eval set could share with it: here, the one question."""
        return (self.prompt,)

    @property
    def key(self) -> str:
        """The text that makes two rows duplicates of each other."""
        return self.prompt

    def as_json(self) -> JsonObject:
        """The row of dataset.jsonl."""
        head = {} if self.id is None else {"id": self.id}
        return {
            **head,
            "trace_version": self.trace_version,
            "prompt": self.prompt,
            "steps": [step.as_json() for step in self.steps],
            "final_answer": self.final_answer,
            "meta": dict(self.meta),
        }


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    """A text to continue and its continuation."""

    prompt: str
    completion: str

    @property
    def prompts(self) -> tuple[str, ...]:
        """The one prompt."""
        return (self.prompt,)

    @property
    def key(self) -> str:
        """The text that makes two rows duplicates of each other."""
        return self.prompt

    def as_json(self) -> JsonObject:
        """The row of dataset.jsonl."""
        return {"prompt": self.prompt, "completion": self.completion}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``train``: whether it is trained, where it is an answer."""

    role: Literal["system", "user", "assistant"]
    content: str
    train: bool = True

    def as_json(self) -> JsonObject:
        """``{"role", "content"}``, and ``"train": false`` for an answer that is not trained."""
        row: JsonObject = {"role": self.role, "content": self.content}
        return row if self.train else {**row, "train": False}


@dataclass(frozen=True, slots=True)
class Conversation:
    """An optional system message, then user and assistant in turn, an assistant turn last."""

    messages: tuple[Message, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every user turn: each of them could be an item of an eval set."""
        return tuple(message.content for message in self.messages if message.role == "user")

    @property
    def key(self) -> str:
        """The text that makes two rows duplicates: everything before the last answer."""
        return "\n".join(f"{message.role}: {message.content}" for message in self.messages[:-1])

    def as_json(self) -> JsonObject:
        """The row of dataset.jsonl."""
        return {"messages": [message.as_json() for message in self.messages]}


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One training row: its id, its body, its line in the file (0: built), and the paths of keys that nothing is read from."""

    id: str
    body: Trace | PromptCompletion | Conversation
    line: int = 0
    unused: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """Its first question."""
        return self.body.prompts[0]

    @property
    def format(self) -> RowFormat:
        """The format of the body."""
        if isinstance(self.body, Trace):
            return "trace"
        return "prompt_completion" if isinstance(self.body, PromptCompletion) else "chat"


@dataclass(frozen=True, slots=True)
class RenderedSegment:
    """A piece of text that is tokenised on its own; ``train``: its tokens count in the loss."""

    text: str
    train: bool


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """What the trainer tokenises: BOS, the segments, EOS after the last trained one.

    ``messages``: those of a conversation; a checkpoint that has a chat template of its own renders them itself.
    """

    id: str
    segments: tuple[RenderedSegment, ...]
    messages: tuple[Message, ...] = ()

    @property
    def text(self) -> str:
        """The whole text, without BOS and EOS."""
        return "".join(segment.text for segment in self.segments)

    def as_json(self) -> JsonObject:
        """The row of rows.jsonl."""
        segments = [{"text": segment.text, "train": segment.train} for segment in self.segments]
        row: JsonObject = {"id": self.id, "segments": segments}
        return row | {"messages": [message.as_json() for message in self.messages]} if self.messages else row


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One question of an eval set. Groups that the file does not name are ``unspecified``."""

    id: str
    prompt: str
    expected_answer: str
    section: str = "unspecified"
    category: str = "unspecified"
    difficulty: str = "unspecified"

    def as_json(self) -> JsonObject:
        """The line of an eval set (schemas/evalset_item.schema.json)."""
        return {
            "id": self.id,
            "prompt": self.prompt,
            "expected_answer": self.expected_answer,
            "section": self.section,
            "category": self.category,
            "difficulty": self.difficulty,
        }
