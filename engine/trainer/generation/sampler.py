"""Generation in a fixed number of slots with a key-value cache.

In: a model and prompts as token ids (BOS included by the caller). Out: one
:class:`GeneratedSequence` per prompt, as they finish.

    sampler = Sampler(model, max_new_tokens=64, batch_size=32, ends={1: "eos"}, pad_id=0)
    for indices, generations in sampler.batches(prompts): ...
    generations = generate(model, prompts, max_new_tokens=64, batch_size=32, ends={1: "eos"}, pad_id=0)

**The law: a row's answer does not depend on the other rows.** Two programs do all the work, and their shapes are fixed
for the run: one reads the next PROMPT_CHUNK tokens of some prompts into the cache (prefill), one decodes in every slot.
No operation of either mixes rows, draws are keyed by the row's name (:mod:`engine.trainer.generation.sampling`), and
attention goes over the cache block by block, so that its size does not matter. A resumed, reordered or shortened run
generates the same tokens, to the bit. A different batch size may not: matmuls of other shapes may round differently.

A slot whose row is finished takes the next prompt: no row waits for another to end. Prompts are read in chunks, so that
the cost of a prompt depends on its own length, not on the longest. The cache is donated to each call and updated in place.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled
from jax.typing import DTypeLike

from engine.model_config.decoder import DecoderConfig
from engine.trainer.generation.prompts import check_context_length
from engine.trainer.generation.sampling import GREEDY, Sampling, choose, row_key
from engine.trainer.generation.sequences import GeneratedSequence, SequenceInProgress, StopStrings
from engine.trainer.models.decoder import Decoder, KeyValueCache
from engine.trainer.ops.matmul import MatmulRule, dtype_of, matmul_rule
from engine.trainer.pytree import PyTree

PROMPT_CHUNK = 32  # tokens of a prompt in one prefill call: a prompt is padded by half of it on average
PROMPT_ROWS = 8  # prompts in one prefill call; 256 tokens keep a matmul busy
DECODE_STEPS = 32  # tokens a row generates before the host checks them
WAITING_STEPS = 8  # … while prompts wait for a free slot
END_IDS = 8

Batch = tuple[list[int], list[GeneratedSequence]]


class Network(NamedTuple):
    """The constant part of a model, for a program: hashable, so that programs are shared."""

    family: type[Decoder]
    config: DecoderConfig
    compute_dtype: DTypeLike
    matmul: MatmulRule | None
    sampling: Sampling

    def shell(self, weights: PyTree) -> Decoder:
        """The model with only the weights outside its layers; those of the layers are passed to ``extend``."""
        outer = {name: weights[name] for name in ("embed", "norm")}
        model = self.family(self.config, outer, compute_dtype=self.compute_dtype)
        model.matmul = self.matmul
        return model


class Sampler:
    """The two programs for one model, number of slots and sampling, and the loop around them.

    ``ends``: token ids that end an answer -> the finish reason. ``stops`` finds stop strings. ``longest`` is the number
    of tokens of the longest prompt of the run, if that is not among the prompts passed to :meth:`batches`.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        max_new_tokens: int,
        batch_size: int,
        ends: Mapping[int, str],
        pad_id: int,
        sampling: Sampling = GREEDY,
        seed: int = 0,
        stops: StopStrings | None = None,
        longest: int = 1,
    ) -> None:
        self.max_new_tokens, self.batch_size, self.pad_id = max_new_tokens, batch_size, pad_id
        self.ends, self.seed, self.stops, self.longest = dict(ends), seed, stops, longest
        self._end_ids = np.full(max(len(ends), END_IDS), -1, np.int32)  # one shape for most models, so one program
        self._end_ids[: len(ends)] = sorted(ends)
        self.context = model.config.max_position_embeddings
        self.compile_seconds: dict[str, float] = {}
        rule = _matmul(model)
        self._network = Network(type(model), model.config, model.compute_dtype, rule, sampling)
        self._weights: PyTree = {
            "embed": model.embed[...].astype(model.compute_dtype),  # [V, D]
            "norm": model.norm[...],
            "layers": model.unstacked(),
        }

    def batches(self, prompts: Sequence[Sequence[int]], names: Sequence[str] | None = None) -> Iterator[Batch]:
        """(indices, generations) of the rows that finished together; short prompts come first.

        ``names`` key the draws of each row; without them a prompt's own tokens do.
        """
        check_context_length(prompts, names or map(str, range(len(prompts))), self.max_new_tokens, self.context)
        if not prompts:
            return
        keys = [row_key(self.seed, names[i] if names else str(list(prompt))) for i, prompt in enumerate(prompts)]
        waiting = [SequenceInProgress(index, prompts[index], keys[index]) for index in _short_first(prompts)]
        longest = max(self.longest, *map(len, prompts))
        cache = self._network.shell(self._weights).init_cache(self.batch_size, longest + self.max_new_tokens)
        slots: list[SequenceInProgress | None] = [None] * self.batch_size
        while waiting or any(slots):
            cache = self._prefill(cache, slots, _fill_slots(slots, waiting))
            if not _ended(slots):  # a first token may be the last
                cache = self._decode(cache, slots, WAITING_STEPS if waiting else DECODE_STEPS)
            ended = _ended(slots)
            for slot, _ in ended:
                slots[slot] = None
            if ended:
                yield [row.index for _, row in ended], [row.generation() for _, row in ended]

    def _prefill(
        self, cache: KeyValueCache, slots: Sequence[SequenceInProgress | None], fresh: Sequence[int]
    ) -> KeyValueCache:
        """Read the prompts of the slots ``fresh`` into the cache and choose the first token of each."""
        size = min(PROMPT_ROWS, self.batch_size)
        left = {slot: len(row.prompt) for slot in fresh if (row := slots[slot]) is not None}
        while left:
            # The longest first, so that the last calls are full as well.
            batch = sorted(left, key=lambda slot: (-left[slot], slot))[:size]
            tokens = np.full((size, PROMPT_CHUNK), self.pad_id, np.int32)  # [R, T]
            slot_ids, starts, lengths = np.zeros((3, size), np.int32)
            keys = np.zeros((size, 2), np.uint32)
            for index, slot in enumerate(batch):
                row = slots[slot]
                assert row is not None
                start = len(row.prompt) - left[slot]
                chunk = row.prompt[start : start + PROMPT_CHUNK]
                tokens[index, : len(chunk)] = chunk
                slot_ids[index], starts[index], lengths[index], keys[index] = slot, start, len(chunk), row.key
            arguments = (self._weights, cache, tokens, slot_ids, starts, lengths, keys)
            program = self._program("prefill", arguments)
            started = time.perf_counter()
            cache, next_tokens = program(*arguments)
            first_tokens = np.asarray(next_tokens)  # [R]; waits for the device
            share = (time.perf_counter() - started) * 1000 / len(batch)
            for index, slot in enumerate(batch):
                row = slots[slot]
                assert row is not None
                row.milliseconds += share
                left[slot] -= int(lengths[index])
                if not left[slot]:
                    del left[slot]
                    row.append([int(first_tokens[index])], self.ends, self.max_new_tokens, self.stops)
        return cache

    def _decode(self, cache: KeyValueCache, slots: Sequence[SequenceInProgress | None], steps: int) -> KeyValueCache:
        """Generate up to ``steps`` tokens for every row that is not finished."""
        token, position, count = np.zeros((3, self.batch_size), np.int32)
        live = np.zeros(self.batch_size, bool)
        keys = np.zeros((self.batch_size, 2), np.uint32)
        rows = {slot: row for slot, row in enumerate(slots) if row is not None and not row.reason}
        for slot, row in rows.items():
            token[slot], count[slot], live[slot], keys[slot] = row.ids[-1], len(row.ids), True, row.key
            position[slot] = len(row.prompt) + len(row.ids) - 1
        left = np.int32(self.max_new_tokens) - count
        arguments = (self._weights, cache, token, position, count, left, live, keys, self._end_ids, np.int32(steps))
        program = self._program("decode", arguments)
        started = time.perf_counter()
        cache, out, n_new = program(*arguments)
        new_tokens, n_new = np.asarray(out), np.asarray(n_new)  # [B, DECODE_STEPS], i32[B]; waits for the device
        share = (time.perf_counter() - started) * 1000 / len(rows)
        for slot, row in rows.items():
            row.milliseconds += share
            row.append(new_tokens[slot, : n_new[slot]].tolist(), self.ends, self.max_new_tokens, self.stops)
        return cache

    def _program(self, name: str, arguments: PyTree) -> Compiled:
        """A compiled program; equal models, limits and sizes in one process share it."""
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        started = time.perf_counter()
        program = _compiled(name, self._network, tree, shapes)
        self.compile_seconds.setdefault(name, time.perf_counter() - started)
        return program


@functools.lru_cache(maxsize=64)
def _compiled(
    name: str, network: Network, tree: jax.tree_util.PyTreeDef, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> Compiled:
    function: Callable[..., PyTree] = _prefill if name == "prefill" else _decode
    program = jax.jit(functools.partial(function, network), donate_argnums=1)
    return program.lower(*jax.tree.unflatten(tree, shapes)).compile()


def _prefill(  # noqa: PLR0917 - traced arguments have no names
    network: Network,
    weights: PyTree,
    cache: KeyValueCache,
    tokens: jax.Array,
    slots: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
    keys: jax.Array,
) -> tuple[KeyValueCache, jax.Array]:
    """Write tokens i32[R, T], ``lengths`` of them, to ``slots`` from position ``starts`` -> cache, next token i32[R]."""
    model = network.shell(weights)
    columns = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :]
    positions = jnp.where(columns < lengths[:, None], starts[:, None] + columns, -1)
    last = jnp.maximum(lengths - 1, 0)
    states, cache = model.extend(tokens, positions, cache, rows=slots, last=last, unstacked=weights["layers"])
    return cache, choose(model.unembed(states[:, 0, :]), network.sampling, keys, jnp.zeros_like(lengths))


class _State(NamedTuple):
    """The decoding loop's carry."""

    step: jax.Array  # i32[]
    token: jax.Array  # i32[B]: the newest token of each row
    live: jax.Array  # bool[B]
    new: jax.Array  # i32[B]: tokens generated in this call
    out: jax.Array  # i32[B, DECODE_STEPS]
    cache: KeyValueCache


def _decode(  # noqa: PLR0917 - traced arguments have no names
    network: Network,
    weights: PyTree,
    cache: KeyValueCache,
    token: jax.Array,
    position: jax.Array,
    count: jax.Array,
    left: jax.Array,
    live: jax.Array,
    keys: jax.Array,
    ends: jax.Array,
    steps: jax.Array,
) -> tuple[KeyValueCache, jax.Array, jax.Array]:
    """Generate after ``token`` at ``position``: a row of ``count`` tokens up to ``left`` more, all rows up to ``steps``.

    Gives the cache, the tokens i32[B, DECODE_STEPS] and how many of them each row generated i32[B].
    """
    model = network.shell(weights)

    def unfinished(carry: _State) -> jax.Array:
        return jnp.logical_and(carry.step < steps, jnp.any(carry.live))

    def step(carry: _State) -> _State:
        at = jnp.where(carry.live, position + carry.new, -1)[:, None]  # [B, 1]: the newest token's position
        states, cache = model.extend(carry.token[:, None], at, carry.cache, unstacked=weights["layers"])
        token = choose(model.unembed(states[:, 0, :]), network.sampling, keys, count + carry.new)
        out = jax.lax.dynamic_update_slice(carry.out, token[:, None], (jnp.int32(0), carry.step))
        new = carry.new + carry.live.astype(jnp.int32)
        ended = jnp.logical_or(jnp.any(token[:, None] == ends[None, :], axis=1), new >= left)
        return _State(carry.step + 1, token, jnp.logical_and(carry.live, ~ended), new, out, cache)

    out = jnp.zeros((token.shape[0], DECODE_STEPS), jnp.int32)
    start = _State(jnp.int32(0), token, live, jnp.zeros_like(token), out, cache)
    end = jax.lax.while_loop(unfinished, step, start)
    return end.cache, end.out, end.new


def _matmul(model: Decoder) -> MatmulRule | None:
    return matmul_rule("auto", str(model.compute_dtype), jax.local_devices()[0])


def matmul_dtype(model: Decoder) -> str:
    """The dtype in which this machine multiplies for the model: other answers begin where it is another."""
    return dtype_of(_matmul(model), str(model.compute_dtype))


def _fill_slots(slots: list[SequenceInProgress | None], waiting: list[SequenceInProgress]) -> list[int]:
    """Give free slots to waiting rows -> these slots. A prefill call costs the same for one row as for PROMPT_ROWS."""
    free = [slot for slot, row in enumerate(slots) if row is None][: len(waiting)]
    worthwhile = max(1, min(PROMPT_ROWS, len(slots)) // 2)
    if len(free) < min(worthwhile, len(waiting)) and any(slots):
        return []
    for slot in free:
        slots[slot] = waiting.pop(0)
    return free


def _ended(slots: Sequence[SequenceInProgress | None]) -> list[tuple[int, SequenceInProgress]]:
    return [(slot, row) for slot, row in enumerate(slots) if row is not None and row.reason]


def _short_first(prompts: Sequence[Sequence[int]]) -> list[int]:
    return sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    names: Sequence[str] | None = None,
    on_batch: Callable[[list[int], list[GeneratedSequence]], None] | None = None,
    **options: Any,
) -> list[GeneratedSequence]:
    """Generate for every prompt; ``options``: those of :class:`Sampler`. ``on_batch`` is called when rows have ended."""
    sampler = Sampler(model, **options)
    by_index: dict[int, GeneratedSequence] = {}
    for indices, generations in sampler.batches(prompts, names):
        by_index.update(zip(indices, generations, strict=True))
        if on_batch is not None:
            on_batch(indices, generations)
    return [by_index[index] for index in range(len(prompts))]
