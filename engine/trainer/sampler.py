"""Greedy generation in batches with a key-value cache.

What goes in: a model and prompts as token ids (BOS included by the caller). What comes out: one
:class:`Generation` per prompt, in the order of the prompts.

    sampler = Sampler(model, max_new_tokens=64, batch_size=32, eos_id=1, pad_id=0)
    for indices, generations in sampler.batches(prompts): ...
    generations = generate(model, prompts, max_new_tokens=64, eos_id=1, pad_id=0, batch_size=32)

**The law: what a row gets does not depend on the other rows.** A prompt's length alone picks its bucket;
every batch of a bucket has the same shape (missing rows are filled with padding that is finished from the
start); no operation mixes rows. So a resumed, reordered or shortened run generates the same tokens, to the bit.
One program is compiled per bucket: prompt and decoding loop together, the cache living inside it, where
the loop updates it in place.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from engine.errors import Diagnostic, InputInvalid, Where
from engine.trainer.models.decoder import Cache, Decoder

SMALLEST_BUCKET = 16

Batch = tuple[list[int], list["Generation"]]


@dataclass(frozen=True, slots=True)
class Generation:
    """What one prompt got.

    ``ids`` are without the EOS (or end of turn); ``new_tokens`` counts it (it was computed), so that it is len(ids) + 1 for
    "eos" and len(ids) for "length". ``milliseconds`` is the row's share of its batch's time: they add up
    to the whole, compilation not included.
    """

    ids: list[int]
    finish_reason: Literal["eos", "length"]
    prompt_tokens: int
    new_tokens: int
    milliseconds: float


class _State(NamedTuple):
    """The decoding loop's carry."""

    filled: jax.Array  # i32[]: columns of `out` that hold tokens
    token: jax.Array  # i32[B]: the newest token of each row
    done: jax.Array  # bool[B]
    out: jax.Array  # i32[B, max_new_tokens], padded
    cache: Cache


class Sampler:
    """Compiled programs by bucket for one model, one batch size and one limit of new tokens."""

    def __init__(
        self,
        model: Decoder,
        *,
        max_new_tokens: int,
        batch_size: int,
        eos_id: int,
        pad_id: int,
        stop_ids: Sequence[int] = (),
    ) -> None:
        """``stop_ids``: where an answer ends besides ``eos_id`` (the end of a turn)."""
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.stop_ids = np.array(sorted({eos_id, *stop_ids}), np.int32)
        self.pad_id = pad_id
        self.context = model.config.max_position_embeddings
        self.compile_seconds: dict[int, float] = {}
        self._graph, self._state = nnx.split(model)

    def check(self, prompts: Sequence[Sequence[int]], names: Sequence[str] | None = None) -> None:
        """Raise InputInvalid M501 naming every prompt that is empty or does not fit with its answer."""
        found = []
        for index, prompt in enumerate(prompts):
            name = names[index] if names else str(index)
            where = Where(file=name)
            if not prompt:
                found.append(Diagnostic("M501", f'the prompt of item "{name}" is empty', where))
            elif len(prompt) + self.max_new_tokens > self.context:
                room = self.context - len(prompt)
                message = (
                    f'the prompt of item "{name}" has {len(prompt)} tokens; with max_new_tokens '
                    f"{self.max_new_tokens} it does not fit the model's context of {self.context}"
                )
                hint = f"set max_new_tokens to at most {room}" if room > 0 else "shorten the prompt"
                found.append(Diagnostic("M501", message, where, hint))
        if found:
            raise InputInvalid.of(found)

    def batches(self, prompts: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """(indices, generations) batch by batch: buckets from small to large, input order inside each."""
        self.check(prompts)
        for bucket, indices in self.plan([len(prompt) for prompt in prompts]):
            yield indices, self._run(bucket, [prompts[index] for index in indices])

    def plan(self, lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
        """(bucket, indices) of each batch, a pure function of the lengths."""
        buckets: dict[int, list[int]] = {}
        for index, length in enumerate(lengths):
            buckets.setdefault(bucket_of(length), []).append(index)
        size = self.batch_size
        return [
            (bucket, indices[start : start + size])
            for bucket, indices in sorted(buckets.items())
            for start in range(0, len(indices), size)
        ]

    def _run(self, bucket: int, prompts: Sequence[Sequence[int]]) -> list[Generation]:
        tokens = np.full((self.batch_size, bucket), self.pad_id, np.int32)  # [B, T]
        lengths = np.zeros(self.batch_size, np.int32)  # [B]; 0 = no row here
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
            lengths[row] = len(prompt)
        arguments = (self._state, tokens, lengths, self.stop_ids, np.int32(self.pad_id))
        program = self._program(bucket, arguments)
        started = time.perf_counter()
        out = np.asarray(program(*arguments))  # [B, max_new_tokens]; waits for the device
        share = (time.perf_counter() - started) * 1000 / len(prompts)
        return [self._finish(out[row], len(prompt), share) for row, prompt in enumerate(prompts)]

    def _program(self, bucket: int, arguments: Any) -> Any:
        """The compiled program of a bucket; equal models and limits in one process share it."""
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        started = time.perf_counter()
        program = _compiled(self._graph, self.max_new_tokens, tree, shapes)
        self.compile_seconds.setdefault(bucket, time.perf_counter() - started)
        return program

    def _finish(self, row: np.ndarray[Any, Any], prompt_tokens: int, milliseconds: float) -> Generation:
        ends = np.flatnonzero(np.isin(row, self.stop_ids))
        kept = [int(one) for one in (row[: ends[0]] if ends.size else row)]
        new_tokens = len(kept) + 1 if ends.size else len(kept)
        reason: Literal["eos", "length"] = "eos" if ends.size else "length"
        return Generation(kept, reason, prompt_tokens, new_tokens, round(milliseconds, 3))


@functools.lru_cache(maxsize=64)
def _compiled(graph: Any, max_new_tokens: int, tree: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    program = jax.jit(functools.partial(_greedy, graph, max_new_tokens))
    return program.lower(*jax.tree.unflatten(tree, shapes)).compile()


def _greedy(  # noqa: PLR0917 - traced arguments have no names
    graph: Any,
    max_new_tokens: int,
    state: Any,
    tokens: jax.Array,
    lengths: jax.Array,
    stop_ids: jax.Array,
    pad_id: jax.Array,
) -> jax.Array:
    """tokens i32[B, T] right-padded, lengths i32[B], stop_ids i32[E] -> new tokens i32[B, max_new_tokens]."""
    model: Decoder = nnx.merge(graph, state)
    batch, bucket = tokens.shape

    def keep(carry: _State, token: jax.Array) -> _State:
        """Append one token to each row that is not done."""
        token = jnp.where(carry.done, pad_id, token)
        out = jax.lax.dynamic_update_slice(carry.out, token[:, None], (jnp.int32(0), carry.filled))
        done = jnp.logical_or(carry.done, jnp.any(token[:, None] == stop_ids[None, :], axis=1))
        return _State(carry.filled + 1, token, done, out, carry.cache)

    def unfinished(carry: _State) -> jax.Array:
        return jnp.logical_and(carry.filled < max_new_tokens, ~jnp.all(carry.done))

    def decode(carry: _State) -> _State:
        at = (lengths + carry.filled - 1)[:, None]  # [B, 1]: where the newest token goes
        states, cache = model.extend(carry.token[:, None], at, carry.cache)
        token = jnp.argmax(model.unembed(states[:, 0, :]), axis=-1).astype(jnp.int32)
        return keep(carry._replace(cache=cache), token)

    cache = model.init_cache(batch, bucket + max_new_tokens)
    positions = jnp.broadcast_to(jnp.arange(bucket, dtype=jnp.int32)[None, :], (batch, bucket))
    states, cache = model.extend(tokens, positions, cache)  # [B, T, D]
    last = jnp.maximum(lengths - 1, 0)[:, None, None]  # [B, 1, 1]
    states = jnp.take_along_axis(states, last, axis=1)[:, 0, :]  # [B, D]: the head sees one position a row
    token = jnp.argmax(model.unembed(states), axis=-1).astype(jnp.int32)  # [B]
    out = jnp.full((batch, max_new_tokens), pad_id, jnp.int32)
    start = keep(_State(jnp.int32(0), token, lengths == 0, out, cache), token)
    return jax.lax.while_loop(unfinished, decode, start).out


def bucket_of(length: int) -> int:
    """The padded length of a prompt: the next power of two, 16 at least.

    >>> [bucket_of(length) for length in (1, 16, 17, 100)]
    [16, 16, 32, 128]
    """
    return max(SMALLEST_BUCKET, 1 << (length - 1).bit_length())


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int,
    pad_id: int,
    batch_size: int,
    names: Sequence[str] | None = None,
    on_batch: Callable[[list[int], list[Generation]], None] | None = None,
) -> list[Generation]:
    """Generate for every prompt; ``on_batch(indices, generations)`` hears of each finished batch."""
    sampler = Sampler(model, max_new_tokens=max_new_tokens, batch_size=batch_size, eos_id=eos_id, pad_id=pad_id)
    sampler.check(prompts, names)
    found: dict[int, Generation] = {}
    for indices, generations in sampler.batches(prompts):
        found.update(zip(indices, generations, strict=True))
        if on_batch is not None:
            on_batch(indices, generations)
    return [found[index] for index in range(len(prompts))]
