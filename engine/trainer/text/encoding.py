"""Segments of text to token ids: the one place where a row's prompt and a question asked later become tokens.

In: :class:`Segment` values, in order. Out: the ids of each, tokenised by itself, so that no token spans the boundary
between what is given and what is learnt, and a prompt has the same ids in a training row and when it is asked.

    segments = (Segment("2 + 2 = ?\\n", train=False), Segment("4", train=True))
    ids = encode_segments(segments, tokenizer)          # [[...], [...]]
    merged = merged_boundaries([segments], tokenizer)   # [0]: the tokenizer alone would not have merged here either

Three kinds of text. ``plain``: a person's or our own render's; only the turn markers are tokens ("text is text", see
:mod:`engine.trainer.text.tokenizer`). ``template``: what the checkpoint's chat template wrote; every control token it names
is that token. ``literal``: a control token's name inside a message; it stays those letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.trainer.text.tokenizer import Tokenizer

SegmentKind = Literal["plain", "template", "literal"]
KINDS: tuple[SegmentKind, ...] = ("plain", "template", "literal")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a row's text; ``eos``: a turn ends here, so EOS follows it even though it is not the last trained one.

    ``train``: its tokens count in the loss. ``kind``: how names of control tokens in it are read (module docstring).
    """

    text: str
    train: bool
    eos: bool = False
    kind: SegmentKind = "plain"


def encode_segments(segments: Sequence[Segment], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of each segment. Raises InputInvalid M304 where a text would become a control token."""
    found: list[list[int]] = [[] for _ in segments]
    for kind in KINDS:
        places = [place for place, segment in enumerate(segments) if segment.kind == kind]
        encoded = tokenizer.encode_many([segments[place].text for place in places], kind=kind)
        for place, ids in zip(places, encoded, strict=True):
            found[place] = ids
    return found


def merged_boundaries(rows: Iterable[Sequence[Segment]], tokenizer: Tokenizer) -> list[int]:
    """For each row, at how many boundaries between trained and untrained text one tokenisation would have merged.

    There the tokens of the row are not those of its whole text: the model learns to write the answer's first token by
    itself, as it must when it is asked. Only where some token of the vocabulary holds both neighbouring characters is
    the joint text tokenised at all; where none does, no token can span the boundary.
    """
    counts: list[int] = []
    joints: list[tuple[int, Segment, Segment]] = []
    for row, segments in enumerate(rows):
        counts.append(0)
        for left, right in pairwise(segments):
            if left.train != right.train and left.kind == right.kind and tokenizer.may_merge(left.text, right.text):
                joints.append((row, left, right))
    parts = encode_segments([part for _, *pair in joints for part in pair], tokenizer)
    whole = encode_segments([Segment(a.text + b.text, train=False, kind=a.kind) for _, a, b in joints], tokenizer)
    for place, (row, *_) in enumerate(joints):
        counts[row] += whole[place] != parts[2 * place] + parts[2 * place + 1]
    return counts


def row_segments(
    text: Sequence[Segment], messages: Sequence[Mapping[str, str]] | None, tokenizer: Tokenizer
) -> tuple[Segment, ...]:
    """What is tokenised of a row: its messages by the checkpoint's chat template, if it has one; else its own render.

    ``messages``: None for a row that is no conversation. Raises InputInvalid M305 to M307.
    """
    if messages is None:
        return tuple(text)
    if tokenizer.chat is None:  # each answer ends a turn: where the vocabulary has no end of turn, EOS ends it
        return tuple(Segment(part.text, part.train, eos=part.train) for part in text)
    return tokenizer.chat.segments(messages)


def prompt_ids(text: str, messages: Sequence[Mapping[str, str]] | None, tokenizer: Tokenizer) -> list[int]:
    """BOS, once, and the ids of a question: those that stand before the answer in a training row of the same text."""
    if messages is not None and tokenizer.chat is not None:
        segments = tokenizer.chat.segments(messages, ask=True)
    else:
        segments = (Segment(text, train=False),)
    return [tokenizer.bos_id, *(one for ids in encode_segments(segments, tokenizer) for one in ids)]
