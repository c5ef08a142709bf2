"""A sequence during generation and when finished: where an answer ends, and why.

In: tokens as the device gives them, in pieces of any size. Out: :class:`GeneratedSequence`. Where
an answer ends does not depend on the pieces: it is checked token by token.

    >>> stops = StopStrings(["\\n\\n"], decode=lambda ids: "".join(map(chr, ids)))
    >>> row = SequenceInProgress(0, [2], np.zeros(2, np.uint32))
    >>> row.append([ord("a"), 10, 10, ord("b")], ends={1: "eos"}, limit=9, stops=stops)
    >>> row.generation().ids, row.generation().finish_reason, row.generation().text
    ([97, 10, 10], 'stop', 'a')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# Why an answer ended: the EOS, the end of a chat turn, a stop string, max_new_tokens.
FINISH_REASONS = ("eos", "end_of_turn", "stop", "length")


@dataclass(frozen=True, slots=True)
class GeneratedSequence:
    """The answer to one prompt.

    ``ids`` exclude the token that ended the answer; ``new_tokens`` counts it (it was computed), so that it is
    len(ids) + 1 for "eos" and "end_of_turn" and len(ids) for "stop" and "length". ``text`` is the answer up to the stop
    string where one ended it, else None: the text of the ids. ``milliseconds`` is the row's share of the time of the
    calls it took part in: shares add up to the total time, compilation not included.
    """

    ids: list[int]
    finish_reason: str
    prompt_tokens: int
    new_tokens: int
    milliseconds: float
    text: str | None = None


class StopStrings:
    """Ends an answer at the first token after which its text holds one of the strings."""

    def __init__(self, strings: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        self.strings = tuple(strings)
        self._decode = decode

    def cut(self, ids: Sequence[int]) -> str | None:
        """The text before the first string in the ids' text, None where there is none."""
        text = self._decode(ids)
        starts = [start for string in self.strings if (start := text.find(string)) >= 0]
        return text[: min(starts)] if starts else None


@dataclass(slots=True)
class SequenceInProgress:
    """A prompt that is being answered; ``key`` u32[2] is that of its draws, ``reason`` is set when the answer has ended."""

    index: int
    prompt: Sequence[int]
    key: np.ndarray
    ids: list[int] = field(default_factory=list)
    reason: str | None = None
    text: str | None = None
    milliseconds: float = 0.0

    def append(self, tokens: Sequence[int], ends: Mapping[int, str], limit: int, stops: StopStrings | None) -> None:
        """Append tokens up to the end of the answer; those after it are dropped."""
        for token in tokens:
            if self.reason:
                return
            self.ids.append(token)
            self.reason = ends.get(token)
            if self.reason is None and stops is not None:
                self.text = stops.cut(self.ids)
                self.reason = None if self.text is None else "stop"
            if self.reason is None and len(self.ids) >= limit:
                self.reason = "length"

    def generation(self) -> GeneratedSequence:
        """The finished answer; only once it has ended."""
        assert self.reason is not None
        ids = self.ids if self.reason in ("stop", "length") else self.ids[:-1]
        return GeneratedSequence(
            ids, self.reason, len(self.prompt), len(self.ids), round(self.milliseconds, 3), self.text
        )
