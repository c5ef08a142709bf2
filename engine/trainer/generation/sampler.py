"""Generation in a fixed number of slots with a key-value cache.

In: a model and prompts as token ids (BOS included by the caller). Out: one
:class:`GeneratedSequence` per prompt, as they finish.

    sampler = Sampler(model, max_new_tokens=64, batch_size=32, ends={1: "eos"}, pad_id=0)
    for indices, generations in sampler.batches(prompts): ...
    generations = generate(model, prompts, max_new_tokens=64, batch_size=32, ends={1: "eos"}, pad_id=0)

**The law: a row's answer does not depend on the other rows.** Two programs do all the work, and their shapes are fixed
for the run: one reads pieces of prompts into the cache (prefill), one decodes in every slot. No operation of either mixes
rows, draws are keyed by the row's name (:mod:`engine.trainer.generation.sampling`), and
attention goes over the cache block by block, so that its size does not matter. A resumed, reordered or shortened run
generates the same tokens, to the bit. A different batch size may not: matmuls of other shapes may round differently.

A slot whose row is finished takes the next prompt: no row waits for another to end. Pieces of prompts are packed into
each call, so that the cost of a prompt depends on its own length, and a beginning that prompts share is read once
(:mod:`engine.trainer.generation.prefill`). The cache is donated to each call and updated in place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.stages import Compiled
from jax.typing import DTypeLike

from engine.trainer.generation.prefill import PIECE, Copy, PromptPiece, PromptReader
from engine.trainer.generation.programs import DECODE_STEPS, Network, compiled
from engine.trainer.generation.prompts import check_context_length
from engine.trainer.generation.sampling import GREEDY, Sampling, row_key
from engine.trainer.generation.sequences import GeneratedSequence, SequenceInProgress, StopStrings
from engine.trainer.models.cached import KeyValueCache, block_sizes
from engine.trainer.models.decoder import Decoder
from engine.trainer.models.unstacked import INT8
from engine.trainer.ops.matmul import MatmulRule, dtype_of, matmul_rule
from engine.trainer.ops.quantized import quantize
from engine.trainer.pytree import PyTree

MOST_PIECES, PIECES_A_SLOT = 16, 2  # in one prefill call; 256 tokens keep a matmul busy
WAITING_STEPS = 8  # tokens a row generates before the host checks them, while prompts wait for a free slot
END_IDS = 8

Batch = tuple[list[int], list[GeneratedSequence]]
Slots = list[SequenceInProgress | None]


def matrices_of(declared: str, dtype: DTypeLike, device: jax.Device) -> tuple[str, MatmulRule | None]:
    """The dtype that matrices are held in, and how they are multiplied; ``dtype``: that of the activations.

    "auto": in ``dtype``. "bfloat16" beside float32 activations: activations are rounded for the matmul, where the device
    multiplies bfloat16, else the matrices become wider at each matmul, which saves memory but no time. "int8":
    :mod:`engine.trainer.ops.quantized`.
    """
    dtype = str(dtype)
    if declared == "bfloat16" and dtype != "bfloat16":
        return declared, matmul_rule("auto", declared, device) or MatmulRule(declared)
    return dtype if declared == "auto" else declared, matmul_rule("auto", dtype, device)


def matmul_dtype(model: Decoder, weights: str) -> str:
    """The dtype in which this machine multiplies for the model: other answers begin where it is another."""
    held, rule = matrices_of(weights, model.compute_dtype, jax.local_devices()[0])
    return held if held == INT8 else dtype_of(rule, str(model.compute_dtype))


class Sampler:
    """The programs for one model, number of slots and sampling, and the loop around them.

    ``ends``: token ids that end an answer -> the finish reason. ``stops`` finds stop strings. ``longest`` is the number
    of tokens of the longest prompt of the run, if that is not among the prompts passed to :meth:`batches`. ``weights``: how the
    matrices are held, "auto" in the model's dtype, "bfloat16" or "int8" (:func:`matrices_of`).
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
        weights: str = "auto",
    ) -> None:
        self.max_new_tokens, self.batch_size, self.pad_id = max_new_tokens, batch_size, pad_id
        self.ends, self.seed, self.stops, self.longest = dict(ends), seed, stops, longest
        self._end_ids = np.full(max(len(ends), END_IDS), -1, np.int32)  # one shape for most models, so one program
        self._end_ids[: len(ends)] = sorted(ends)
        self._pieces = min(MOST_PIECES, PIECES_A_SLOT * batch_size)
        self.context = model.config.max_position_embeddings
        self.compile_seconds: dict[str, float] = {}
        self.weights_dtype, rule = matrices_of(weights, model.compute_dtype, jax.local_devices()[0])
        self._network = Network(type(model), model.config, model.compute_dtype, rule, sampling)
        embed = model.embed[...]  # [V, D]
        self._weights: PyTree = {
            "embed": quantize(embed) if self.weights_dtype == INT8 else embed.astype(self.weights_dtype),
            "norm": model.norm[...],
            "layers": model.unstacked(rule, self.weights_dtype),
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
        slots: Slots = [None] * self.batch_size
        reader = PromptReader(self.batch_size, longest, self._pieces)
        while waiting or any(slots):
            fresh = self._fill_slots(slots, waiting)
            if fresh:
                cache = self._read_prompts(cache, fresh, reader)
            cache = self._decode(cache, slots, WAITING_STEPS if waiting else DECODE_STEPS)
            ended = [(slot, row) for slot, row in enumerate(slots) if row is not None and row.reason]
            for slot, _ in ended:
                slots[slot] = None
            if ended:
                yield [row.index for _, row in ended], [row.generation() for _, row in ended]

    def _fill_slots(self, slots: Slots, waiting: list[SequenceInProgress]) -> dict[int, SequenceInProgress]:
        """Give free slots to waiting rows, once they fill half a prefill call, which costs the same if it is not full."""
        free = [slot for slot, row in enumerate(slots) if row is None][: len(waiting)]
        tokens = sum(len(row.prompt) for row in waiting[: len(free)])
        worthwhile = 2 * tokens >= self._pieces * PIECE or 2 * len(free) >= min(len(slots), self._pieces)
        if not worthwhile and len(free) < len(waiting) and any(slots):
            return {}
        fresh = {slot: waiting.pop(0) for slot in free}
        for slot, row in fresh.items():
            slots[slot] = row
        return fresh

    def _read_prompts(
        self, cache: KeyValueCache, fresh: Mapping[int, SequenceInProgress], reader: PromptReader
    ) -> KeyValueCache:
        """Bring prompts into their slots of the cache, all but the last token of each, which decoding reads."""
        reader.assign({slot: row.prompt[:-1] for slot, row in fresh.items()})
        work, seconds = Counter(fresh.keys()), 0.0
        while reader.unfinished:
            copies, pieces = reader.copies(), reader.pieces()
            if copies:
                cache, taken = self._copy(cache, copies)
                seconds += taken
            if pieces:
                cache, taken = self._prefill(cache, pieces)
                seconds += taken
            work.update(piece.slot for piece in pieces)
        for slot, row in fresh.items():
            row.milliseconds += seconds * 1000 * work[slot] / work.total()
        return cache

    def _prefill(self, cache: KeyValueCache, pieces: Sequence[PromptPiece]) -> tuple[KeyValueCache, float]:
        """Write pieces of prompts to the cache -> (cache, seconds)."""
        tokens = np.full((self._pieces, PIECE), self.pad_id, np.int32)  # [P, T]
        slots, starts, lengths = np.zeros((3, self._pieces), np.int32)
        for index, piece in enumerate(pieces):
            tokens[index, : len(piece.tokens)] = piece.tokens
            slots[index], starts[index], lengths[index] = piece.slot, piece.start, len(piece.tokens)
        arguments = (cache, self._weights, tokens, slots, starts, lengths)
        program = self._program("prefill", arguments)
        started = time.perf_counter()
        cache = jax.block_until_ready(program(*arguments))
        return cache, time.perf_counter() - started

    def _copy(self, cache: KeyValueCache, copies: Sequence[Copy]) -> tuple[KeyValueCache, float]:
        """Copy beginnings of rows to other rows -> (cache, seconds). Only the blocks that they reach."""
        sizes = block_sizes(sum(values.shape[2] for values in cache.v[0]))
        reached = sum(sum(sizes[:index]) < max(copy.length for copy in copies) for index in range(len(sizes)))
        part = KeyValueCache(*(tuple(layer[:reached] for layer in arrays) for arrays in cache))
        sources, targets = np.zeros((2, self.batch_size), np.int32)
        for index, copy in enumerate(copies):
            sources[index], targets[index] = copy.source, copy.target
        arguments = (part, sources, targets, np.int32(len(copies)))
        program = self._program("copy", arguments)
        started = time.perf_counter()
        part = jax.block_until_ready(program(*arguments))
        layers = [zip(new, old, strict=True) for new, old in zip(part, cache, strict=True)]
        cache = KeyValueCache(*(tuple((*new, *old[reached:]) for new, old in layer) for layer in layers))
        return cache, time.perf_counter() - started

    def _decode(self, cache: KeyValueCache, slots: Slots, steps: int) -> KeyValueCache:
        """Generate up to ``steps`` tokens for every row that is not finished."""
        token, position, count = np.zeros((3, self.batch_size), np.int32)
        live = np.zeros(self.batch_size, bool)
        keys = np.zeros((self.batch_size, 2), np.uint32)
        rows = {slot: row for slot, row in enumerate(slots) if row is not None}
        for slot, row in rows.items():
            token[slot] = row.ids[-1] if row.ids else row.prompt[-1]
            position[slot] = len(row.prompt) + len(row.ids) - 1
            count[slot], live[slot], keys[slot] = len(row.ids), True, row.key
        left = np.int32(self.max_new_tokens) - count
        arguments = (cache, self._weights, token, position, count, left, live, keys, self._end_ids, np.int32(steps))
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
        started = time.perf_counter()
        program = compiled(name, self._network, arguments)
        self.compile_seconds.setdefault(name, time.perf_counter() - started)
        return program


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
