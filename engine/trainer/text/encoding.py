"""Segments of text to token ids: the one module that tokenizes training rows and prompts.

In: :class:`~engine.trainer.text.segment.Segment` values, in order. Out: the ids of each. Each segment is tokenized by
itself, so that no token spans the boundary between prompt and answer, and a prompt has the same ids in a training row
as at generation.

    segments = (Segment("2 + 2 = ?\\n", train=False), Segment("4", train=True))
    ids = encode_segments(segments, tokenizer)          # [[...], [...]]
    merges = merged_boundaries([segments], tokenizer)   # [0]: one tokenization would not have merged here either
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.trainer.text.segment import KINDS, Segment
from engine.trainer.text.tokenizer import Tokenizer


def encode_segments(segments: Sequence[Segment], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of each segment. Raises InputInvalid M304 where a text would become a control token."""
    encoded: list[list[int]] = [[] for _ in segments]
    for kind in KINDS:
        indices = [index for index, segment in enumerate(segments) if segment.kind == kind]
        ids_of_kind = tokenizer.encode_many([segments[index].text for index in indices], kind=kind)
        for index, ids in zip(indices, ids_of_kind, strict=True):
            encoded[index] = ids
    return encoded


def merged_boundaries(rows: Iterable[Sequence[Segment]], tokenizer: Tokenizer) -> list[int]:
    """For each row, at how many boundaries between trained and untrained text one tokenization would have merged.

    At such a boundary the row's tokens differ from those of its joined text: the model learns to write the answer's
    first token by itself, as it must at generation. The joint text is tokenized only where some token of the vocabulary
    holds both neighbouring characters; elsewhere no token can span the boundary.
    """
    counts: list[int] = []
    joints: list[tuple[int, Segment, Segment]] = []
    for row, segments in enumerate(rows):
        counts.append(0)
        for left, right in pairwise(segments):
            if left.train != right.train and left.kind == right.kind and tokenizer.may_merge(left.text, right.text):
                joints.append((row, left, right))
    parts = encode_segments([part for _, *pair in joints for part in pair], tokenizer)
    joined = encode_segments([Segment(a.text + b.text, train=False, kind=a.kind) for _, a, b in joints], tokenizer)
    for index, (row, *_) in enumerate(joints):
        counts[row] += joined[index] != parts[2 * index] + parts[2 * index + 1]
    return counts


def row_segments(
    text: Sequence[Segment], messages: Sequence[Mapping[str, Any]] | None, tokenizer: Tokenizer
) -> tuple[Segment, ...]:
    """The segments of a row: its messages by the checkpoint's chat template, if it has one; else its own rendering.

    ``messages``: None for a row that is not a conversation. Raises InputInvalid M305 to M307.
    """
    if messages is None or tokenizer.chat is None:
        return tuple(text)
    return tokenizer.chat.segments(messages)


def prompt_segments(
    text: str, messages: Sequence[Mapping[str, Any]] | None, tokenizer: Tokenizer
) -> tuple[Segment, ...]:
    """What is really asked: the messages by the checkpoint's chat template, if there are both; else the text."""
    if messages is not None and tokenizer.chat is not None:
        return tokenizer.chat.segments(messages, ask=True)
    return (Segment(text, train=False),)


def prompt_ids(text: str, messages: Sequence[Mapping[str, Any]] | None, tokenizer: Tokenizer) -> list[int]:
    """BOS, once, and the ids of a prompt: those before the answer in a training row of the same text."""
    segments = prompt_segments(text, messages, tokenizer)
    return [tokenizer.bos_id, *(token for ids in encode_segments(segments, tokenizer) for token in ids)]


def renderer_of(*, messages: bool, render: str, tokenizer: Tokenizer) -> str:
    """What makes text of rows or prompts of this kind, for people: ``render`` is the dataset's name of it."""
    if not messages:
        return render
    if tokenizer.chat_sha256 is None:
        return "gemma_chat@v1, since the model has no chat template"
    return f"the model's chat template, SHA-256 {tokenizer.chat_sha256}"
