"""A row of format ``chat`` → a conversation: who speaks, what is said, and which answers are trained.

In: a row with a list of messages. Out: a :class:`engine.data.model.Conversation`, or findings.

    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "weight": 0}, …]}

**Which answers are trained** can be said in each message, by the keys that people's files have: ``weight`` (OpenAI,
Mistral: 0 or 1), ``train`` or ``training`` (Axolotl), ``loss`` (ms-swift), all three true or false. Without them every
answer is trained; null says nothing, since tables that became JSONL have it in every message. Anything else under
these names is an error: a fraction would need a loss that is weighed token by token.

**Content** is a text, or a list of one text part, ``[{"type": "text", "text": "Hi"}]``.

All other keys, at any depth, are counted by their path (``messages[].name``), except those that say under another name that
the answer is not to be trained (``trainable: false``, :mod:`engine.data.row_reader`), and those that hold a part of the answer
itself (``tool_calls``) or train a part of it (``train_detail``): a row with them is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from engine.data.jsonl import json_kind
from engine.data.model import Conversation, DatasetRow, Message
from engine.data.row_reader import MISSING, WRONG_TYPE, RowReader
from engine.data.text import excerpt
from engine.errors import did_you_mean

Role = Literal["system", "user", "assistant"]
ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
OTHER_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}

NUMBERS_THAT_TRAIN = ("weight",)
WORDS_THAT_TRAIN = ("train", "training", "loss")
TRAIN_KEYS = (*NUMBERS_THAT_TRAIN, *WORDS_THAT_TRAIN)
# Key of a message -> what it is: without it another conversation, or another part of it, would be trained.
REFUSED_KEYS = {
    "tool_calls": "a call that the answer consists of",
    "function_call": "a call that the answer consists of",
    "train_detail": "which characters of the answer are trained",
    "training_detail": "which characters of the answer are trained",
}
TEXT_PART_KEYS = ("type", "text")

UNKNOWN_ROLE, ROLE_ORDER, NO_ASSISTANT = 28, 29, 30
BAD_WEIGHT, REFUSED_KEY = 32, 33


def read_chat(reader: RowReader) -> DatasetRow | None:
    """The row, or None after reporting."""
    key = reader.names["messages"]
    value = reader.get("messages")
    if value is None and key not in reader.line.value:
        return None
    if not isinstance(value, list):
        hint = 'write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
        reader.report(WRONG_TYPE, f'"{key}" is {json_kind(value)}, not a list', key, hint)
        return None
    messages = [_read_message(reader, key, index, message) for index, message in enumerate(value)]
    if reader.is_good:
        _check_order(reader, key, [message for message in messages if message])
    if not reader.is_good:
        return None
    body = Conversation(tuple(message for message in messages if message))
    return DatasetRow(reader.default_id, body, reader.line.number, reader.unused((key,)))


def _read_message(reader: RowReader, key: str, index: int, value: object) -> Message | None:
    path = f"{key}[{index}]"
    if not isinstance(value, dict):
        hint = 'a message is {"role": …, "content": …}'
        reader.report(WRONG_TYPE, f'"{path}" is {json_kind(value)}, not a message', key, hint, path=path)
        return None
    _refuse_keys(reader, key, path, value)
    for name in (reader.names["role"], reader.names["content"]):
        if name not in value:
            near = did_you_mean(name, value)
            hint = f'did you mean "{near}"?' if near else f"the message has: {', '.join(value) or 'no key at all'}"
            reader.report(MISSING, f'"{path}" has no "{name}"', key, hint, path=f"{path}.{name}")
            return None
    role = _read_role(reader, key, f"{path}.{reader.names['role']}", value[reader.names["role"]])
    if role is None:
        return None
    content_path = f"{path}.{reader.names['content']}"
    train = _is_trained(reader, key, path, role, value)
    is_trained = train and role == "assistant"
    content = _read_content(reader, key, content_path, value[reader.names["content"]], is_trained=is_trained)
    reader.refuse_turns(content, key, content_path)
    known = (reader.names["role"], reader.names["content"], *TRAIN_KEYS)
    reader.count_others(value, known, f"{key}[]", is_trained=is_trained)
    return Message(role, content, train)


def _read_role(reader: RowReader, key: str, path: str, value: object) -> Role | None:
    if isinstance(value, str) and value in ROLES:
        return ROLES[value]
    near = OTHER_ROLES.get(str(value).casefold()) or did_you_mean(str(value), ROLES)
    hint = f'did you mean "{near}"?' if near else f"one of {', '.join(ROLES)}"
    reader.report(UNKNOWN_ROLE, f"unknown role {excerpt(repr(value), 30)}", key, hint, path=path)
    return None


def _refuse_keys(reader: RowReader, key: str, path: str, message: Mapping[str, object]) -> None:
    """Report keys without which the rest of the message would be another answer; empty ones say nothing."""
    for name, meaning in REFUSED_KEYS.items():
        if message.get(name):
            hint = "write what the model shall answer as text, or delete the row"
            reader.report(REFUSED_KEY, f'"{path}.{name}" has {meaning}: it cannot be left out', key, hint,
                          path=f"{path}.{name}")  # fmt: skip


def _read_content(reader: RowReader, key: str, path: str, content: object, *, is_trained: bool) -> str:
    """The text, or that of its one part; "" after reporting."""
    if not isinstance(content, list):
        return reader.check_text(content, key, path)
    kinds = [str(part.get("type")) if isinstance(part, dict) else json_kind(part) for part in content]
    if kinds == ["text"] and "text" in content[0]:
        part = f"{key}[].{reader.names['content']}[]"
        reader.count_others(content[0], TEXT_PART_KEYS, part, is_trained=is_trained)
        return reader.check_text(content[0]["text"], key, f"{path}[0].text")
    shown = excerpt(", ".join(kinds), 40) or "none"
    hint = 'write the message as one text: "…"'
    reader.report(WRONG_TYPE, f'"{path}" is a list of parts ({shown}), not one text', key, hint, path=path)
    return ""


def _is_trained(reader: RowReader, key: str, path: str, role: Role, message: Mapping[str, object]) -> bool:
    """What the message says of itself; True where it says nothing. Reports what cannot be obeyed."""
    answers: dict[str, bool] = {}
    for name in TRAIN_KEYS:
        value = message.get(name)
        if value is None or name in reader.names.values():  # a field that is mapped to the key has it for itself
            continue
        answer = _yes_or_no(name, value)
        if answer is None:
            choice = "0 or 1" if name in NUMBERS_THAT_TRAIN else "true or false"
            text = f'"{path}.{name}" is {excerpt(_shown(value), 30)}, expected {choice}'
            hint = f"an answer is trained or it is not: write {choice}"
            reader.report(BAD_WEIGHT, text, key, hint, path=f"{path}.{name}")
        else:
            answers[name] = answer
    if len(set(answers.values())) > 1:
        names = " and ".join(f'"{name}"' for name in answers)
        reader.report(BAD_WEIGHT, f'{names} of "{path}" contradict each other', key, "keep one of them", path=path)
    if role == "assistant":
        return all(answers.values())
    for name in (name for name, answer in answers.items() if answer):
        text = f'"{path}.{name}" asks for a {role} turn to be trained'
        reader.report(BAD_WEIGHT, text, key, "only answers are trained: remove the key", path=f"{path}.{name}")
    return True


def _yes_or_no(name: str, value: object) -> bool | None:
    """The value of one of TRAIN_KEYS; None where it is neither yes nor no.

    >>> _yes_or_no("weight", 0.0), _yes_or_no("train", True), _yes_or_no("weight", 0.5), _yes_or_no("train", 1)
    (False, True, None, None)
    """
    if isinstance(value, bool):
        return value if name in WORDS_THAT_TRAIN else None
    # A table with gaps makes 0.0 and 1.0 of whole numbers.
    is_number = name in NUMBERS_THAT_TRAIN and isinstance(value, int | float) and value in (0, 1)
    return bool(value) if is_number else None


def _shown(value: object) -> str:
    """A JSON value in a message: texts in quotes, lists and objects by their kind.

    >>> _shown("no"), _shown(True), _shown([1]), _shown(0.5)
    ('"no"', 'true', 'a list', '0.5')
    """
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else json_kind(value)


def _check_order(reader: RowReader, key: str, messages: list[Message]) -> None:
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        reader.report(NO_ASSISTANT, "the conversation has no assistant turn", key, "there is nothing in it to train on")
        return
    skip = 1 if roles[0] == "system" else 0
    for index, role in enumerate(roles[skip:]):
        expected = "assistant" if index % 2 else "user"
        if role != expected:
            article = "an" if role == "assistant" else "a"
            message = f'"{key}[{index + skip}]" is {article} {role} turn, expected {expected}'
            hint = "an optional system message, then user and assistant in turn"
            reader.report(ROLE_ORDER, message, key, hint, path=f"{key}[{index + skip}]")
            return
    if roles[-1] != "assistant":
        hint = "training needs an answer as the last turn: add the answer, or delete the question"
        reader.report(ROLE_ORDER, "the conversation ends with a user turn", key, hint)
    if not any(message.train for message in messages if message.role == "assistant"):
        hint = "delete the row, or train one of its answers"
        reader.report(NO_ASSISTANT, "the conversation trains none of its answers", key, hint)
