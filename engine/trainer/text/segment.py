"""A piece of a row's text, and how it is to be read.

In: text that a chat template or a rendering wrote. Out: :class:`Segment` values, in order, which
:mod:`engine.trainer.text.encoding` turns into token ids.

    segments = (Segment("2 + 2 = ?\\n", train=False), Segment("4", train=True))

Three kinds of text. ``plain``: a person's or our own rendering's; only the turn markers are tokens ("text is text", see
:mod:`engine.trainer.text.tokenizer`). ``template``: what the checkpoint's chat template wrote; every control token it
names is that token. ``literal``: a control token's name inside a message; it stays those letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SegmentKind = Literal["plain", "template", "literal"]
KINDS: tuple[SegmentKind, ...] = ("plain", "template", "literal")


@dataclass(frozen=True, slots=True)
class Segment:
    """``train``: its tokens count in the loss. ``kind``: how names of control tokens in it are read (module docstring)."""

    text: str
    train: bool
    kind: SegmentKind = "plain"
