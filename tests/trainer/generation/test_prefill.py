"""Reading prompts into the cache: pieces packed in calls, shared beginnings copied, every token read or copied exactly once."""

from __future__ import annotations

import random

import numpy as np
import pytest

from engine.trainer.generation.prefill import PIECE, PromptReader

Prompts = dict[int, list[int]]


class Cache:
    """A cache of tokens in place of keys and values: what calls and copies write."""

    def __init__(self, slots: int, longest: int) -> None:
        self.tokens = np.full((slots, longest), -9)
        self.n_read = self.n_copied = self.n_calls = 0

    def read_all(self, reader: PromptReader, prompts: Prompts, pieces: int) -> None:
        """Do what the reader says until the prompts are there."""
        reader.assign(prompts)
        while reader.unfinished:
            for copy in reader.copies():
                self.tokens[copy.target, : copy.length] = self.tokens[copy.source, : copy.length]
                self.n_copied += copy.length
            due = reader.pieces()
            assert len(due) <= pieces
            for piece in due:
                assert piece.start % PIECE == 0  # a token has one column in a piece, whatever came before
                self.tokens[piece.slot, piece.start : piece.start + len(piece.tokens)] = piece.tokens
                self.n_read += len(piece.tokens)
            self.n_calls += bool(due)
        for slot, prompt in prompts.items():
            assert self.tokens[slot, : len(prompt)].tolist() == prompt


def test_pieces_of_several_prompts_fill_a_call() -> None:
    """Ragged prompts that share nothing: as many calls as their pieces need, not one more."""
    prompts = {slot: list(range(1000 * slot, 1000 * slot + 7 * slot + 1)) for slot in range(12)}
    cache = Cache(12, 100)
    cache.read_all(PromptReader(12, 100, 4), prompts, 4)
    assert cache.n_read == sum(map(len, prompts.values()))
    assert cache.n_calls == -(-sum(-(-len(prompt) // PIECE) for prompt in prompts.values()) // 4)


def test_a_shared_beginning_is_read_once() -> None:
    """Ten prompts with one beginning of three pieces and a bit: whole pieces of it are read by one, copied by nine."""
    start = list(range(3 * PIECE + 5))
    prompts = {slot: [*start, 100 + slot, *range(200, 200 + slot)] for slot in range(10)}
    cache = Cache(10, 100)
    cache.read_all(PromptReader(10, 100, 4), prompts, 4)
    assert cache.n_copied == 9 * 3 * PIECE
    assert cache.n_read == sum(map(len, prompts.values())) - cache.n_copied


def test_a_slot_keeps_what_its_next_prompt_begins_with() -> None:
    """One slot, prompts of one beginning after each other: only what differs is read, and nothing is copied."""
    start = list(range(2 * PIECE))
    reader, cache = PromptReader(1, 100, 4), Cache(1, 100)
    cache.read_all(reader, {0: [*start, 50, 51]}, 4)
    cache.read_all(reader, {0: [*start, 60]}, 4)
    assert (cache.n_read, cache.n_copied) == (2 * PIECE + 3, 0)
    cache.read_all(reader, {0: [*start, 60]}, 4)  # the same prompt again
    assert cache.n_read == 2 * PIECE + 3
    cache.read_all(reader, {0: start[:PIECE]}, 4)
    cache.read_all(reader, {0: [*start[:PIECE], 70]}, 4)
    assert cache.n_read == 2 * PIECE + 4


def test_nothing_is_read_of_prompts_without_tokens() -> None:
    """A prompt of one token has nothing before its last one."""
    reader = PromptReader(2, 1, 4)
    reader.assign({0: [], 1: []})
    assert not reader.unfinished


@pytest.mark.parametrize("seed", range(20))
def test_every_prompt_arrives(seed: int) -> None:
    """Prompts of a few groups in slots that are used again and again, in any order: each slot has its prompt's tokens."""
    draws = random.Random(seed)
    groups = [[draws.randrange(3) for _ in range(draws.randrange(60))] for _ in range(4)]
    reader, cache = PromptReader(6, 120, 3), Cache(6, 120)
    for _ in range(15):
        chosen = draws.sample(range(6), draws.randrange(1, 7))
        tails = {slot: [draws.randrange(3) for _ in range(draws.randrange(50))] for slot in chosen}
        cache.read_all(reader, {slot: draws.choice(groups) + tail for slot, tail in tails.items()}, 3)
    assert cache.n_copied > 0
