"""Which tokens of which prompts the next prefill call reads, and what is copied from another slot instead.

In: the prompts that slots of the cache are to hold. Out: copies from slot to slot, and pieces of prompts, until all are in
the cache.

    reader = PromptReader(slots=8, longest=300, pieces=16)
    reader.assign({0: [2, 7, 9], 3: [2, 7, 8]})
    while reader.unfinished:
        copies, pieces = reader.copies(), reader.pieces()

A piece is PIECE tokens of one prompt, the last one of a prompt fewer; pieces of several prompts, and several pieces of
one, are packed into one call, so that nearly all of its token places are real.

**Shared beginnings are read once.** A token's keys and values are a function of the tokens up to it, to the bit: no operation of
prefill mixes rows, and a token always has the same column of a piece, since pieces begin at multiples of PIECE. So what a
slot holds of another prompt that begins with the same tokens (the instructions, the examples of a few-shot prompt) is
copied, whatever has become of that prompt's answer, and what the slot itself holds is kept. This changes no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

PIECE = 16


class Copy(NamedTuple):
    """The first ``length`` tokens of slot ``source`` to slot ``target``."""

    source: int
    target: int
    length: int


class PromptPiece(NamedTuple):
    """Tokens of a slot's prompt, from the position ``start``."""

    slot: int
    start: int
    tokens: np.ndarray


class PromptReader:
    """What each slot holds, and what it still lacks. ``pieces``: how many a prefill call takes."""

    def __init__(self, slots: int, longest: int, pieces: int) -> None:
        self._held = np.full((slots, max(longest, PIECE)), -1, np.int32)  # the tokens of each slot's prompt
        self._lengths, self._ready = np.zeros((2, slots), np.int64)
        self._sources: dict[int, Copy] = {}
        self._reading: list[int] = []
        self._pieces = pieces

    @property
    def unfinished(self) -> bool:
        """Whether a slot lacks tokens of its prompt."""
        return bool(self._reading)

    def assign(self, prompts: Mapping[int, Sequence[int]]) -> None:
        """Slots get new prompts, all that is to be read of them. Nothing may be unfinished."""
        for slot, prompt in prompts.items():
            tokens = np.full(self._held.shape[1], -1, np.int32)
            tokens[: len(prompt)] = prompt
            self._ready[slot] = _whole_pieces(_common(self._held[[slot]], tokens)[0], len(prompt), self._ready[slot])
            self._held[slot], self._lengths[slot] = tokens, len(prompt)
        usable = self._ready.copy()  # of a slot that is about to be read: nothing, until its own turn
        usable[list(prompts)] = 0
        for slot in prompts:
            self._find_source(slot, usable)
            usable[slot] = self._lengths[slot]
        self._reading = [slot for slot in prompts if self._ready[slot] < self._lengths[slot]]

    def copies(self) -> list[Copy]:
        """Copies whose sources are there; call it before :meth:`pieces`. They count as done."""
        due = [copy for copy in self._sources.values() if self._ready[copy.source] >= copy.length]
        for copy in due:
            del self._sources[copy.target]
            self._ready[copy.target] = copy.length
        self._drop_finished()
        return due

    def pieces(self) -> list[PromptPiece]:
        """The pieces of the next call, at most as many as it takes. They count as read; none where copies come first."""
        awaited = {copy.source for copy in self._sources.values()}
        free = [slot for slot in self._reading if slot not in self._sources]
        # Others wait for the awaited ones; the longest of the rest first, so that the last calls are full as well.
        free.sort(key=lambda slot: (slot not in awaited, self._ready[slot] - self._lengths[slot], slot))
        pieces: list[PromptPiece] = []
        for slot in free:
            for start in range(int(self._ready[slot]), int(self._lengths[slot]), PIECE):
                if len(pieces) == self._pieces:
                    break
                end = min(start + PIECE, int(self._lengths[slot]))
                pieces.append(PromptPiece(slot, start, self._held[slot, start:end]))
                self._ready[slot] = end
        self._drop_finished()
        return pieces

    def _find_source(self, slot: int, usable: np.ndarray) -> None:
        """The slot that has most of this slot's prompt in common with it, where that is more than it holds itself."""
        tokens, length = self._held[slot], int(self._lengths[slot])
        alike = np.flatnonzero((self._held[:, :PIECE] == tokens[:PIECE]).all(axis=1) & (usable >= PIECE))
        alike = alike[alike != slot]
        if not len(alike):
            return
        common = np.minimum(_common(self._held[alike], tokens), usable[alike])
        best = int(np.argmax(common))
        shared = _whole_pieces(common[best], length, length)
        if shared > self._ready[slot]:
            self._sources[slot] = Copy(int(alike[best]), slot, shared)

    def _drop_finished(self) -> None:
        self._reading = [slot for slot in self._reading if self._ready[slot] < self._lengths[slot]]


def _common(held: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """i32[S, T], i32[T] -> how many tokens each row has in common with ``tokens``, from the beginning (-1 is none)."""
    differs = (held != tokens) | (tokens < 0)
    return np.where(differs.any(axis=1), differs.argmax(axis=1), len(tokens))


def _whole_pieces(common: int, length: int, ready: int) -> int:
    """How many of ``common`` tokens can be used: all of the prompt, or whole pieces, so that the next begins where one does."""
    usable = min(int(common), int(ready))
    return usable if usable == length else usable - usable % PIECE
