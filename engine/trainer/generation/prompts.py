"""The prompts of a generate job: read, tokenized, and checked against the model's context length.

In: a file of ``{id, prompt, messages?}`` lines. Out: :class:`Prompt` values and their token ids; or an error naming
every invalid line (M502), every prompt that is empty or too long (M501).

    prompts = read_prompts(path)
    encoded = encode_prompts(prompts, tokenizer)
    check_context_length(encoded, [prompt.id for prompt in prompts], max_new_tokens=64, context=8192)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Diagnostic, InputInvalid, Where
from engine.protocol.jobs import Questions
from engine.trainer.text.encoding import prompt_ids, prompt_segments
from engine.trainer.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line of the prompt file: the item's id, the rendered text, and its messages if it is a chat."""

    id: str
    text: str
    messages: tuple[Mapping[str, str], ...] | None = None


def read_prompts(path: Path) -> list[Prompt]:
    """Read {id, prompt, messages?} lines; raises InputInvalid M502 naming each bad line."""
    prompts: list[Prompt] = []
    problems: list[Diagnostic] = []
    seen: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid("M502", f"the prompts cannot be read: {error}", where=Where(file=str(path))) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        prompt = _prompt(line)
        if isinstance(prompt, Prompt) and prompt.id in seen:
            prompt = f'the id "{prompt.id}" comes twice'
        if isinstance(prompt, str):
            problems.append(Diagnostic("M502", prompt, Where(file=str(path), line=number)))
            continue
        seen.add(prompt.id)
        prompts.append(prompt)
    if not problems and not prompts:
        problems.append(Diagnostic("M502", "the file holds no prompt", Where(file=str(path))))
    if problems:
        raise InputInvalid.of(problems)
    return prompts


def _prompt(line: str) -> Prompt | str:
    """One line's prompt, or what is wrong with the line."""
    try:
        row = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "prompt")):
        return 'a prompt row is an object with the strings "id" and "prompt"'
    messages = row.get("messages")
    if messages is None:
        return Prompt(row["id"], row["prompt"])
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        for message in messages
    ):
        return '"messages" is a list of objects with the strings "role" and "content"'
    return Prompt(row["id"], row["prompt"], tuple(messages))


def encode_prompts(prompts: Iterable[Prompt], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of each prompt, BOS first. Raises InputInvalid M304 to M307."""
    return [prompt_ids(prompt.text, prompt.messages, tokenizer) for prompt in prompts]


def by_template(prompt: Prompt, tokenizer: Tokenizer) -> bool:
    """Whether the model's own chat template renders this prompt."""
    return prompt.messages is not None and tokenizer.chat is not None


def asked_text(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """The text that the model is really asked, without the BOS in front."""
    return "".join(segment.text for segment in prompt_segments(prompt.text, prompt.messages, tokenizer))


def check_context_length(
    prompts: Iterable[Sequence[int]], names: Iterable[str], max_new_tokens: int, context: int
) -> None:
    """Raise InputInvalid M501 naming every prompt (token ids) that is empty or too long with its answer."""
    problems = []
    for name, prompt in zip(names, prompts, strict=True):
        where = Where(file=name)
        if not prompt:
            problems.append(Diagnostic("M501", f'the prompt of item "{name}" is empty', where))
        elif len(prompt) + max_new_tokens > context:
            remaining = context - len(prompt)
            message = (
                f'the prompt of item "{name}" has {len(prompt)} tokens; with max_new_tokens '
                f"{max_new_tokens} it does not fit the model's context of {context}"
            )
            hint = f"set max_new_tokens to at most {remaining}" if remaining > 0 else "shorten the prompt"
            problems.append(Diagnostic("M501", message, where, hint))
    if problems:
        raise InputInvalid.of(problems)


def check_questions(questions: Questions, tokenizer: Tokenizer, context: int) -> None:
    """Check what a train job's model will be asked. Raises InputInvalid M304 to M307, M501, M502."""
    prompts = read_prompts(Path(questions.prompts))
    encoded = encode_prompts(prompts, tokenizer)
    check_context_length(encoded, [prompt.id for prompt in prompts], questions.max_new_tokens, context)
