"""The walk through the layers that all families share; what one layer does is the family's :meth:`Decoder.block`.

What goes in: token ids, positions, segment ids. What comes out: logits, or hidden states for the positions whose
logits count, or hidden states and a filled key-value cache.

    model = create(config, seed=0)
    logits = model(tokens, positions=positions, segment_ids=segment_ids)

Legend of shapes: B batch, T query, S key, D model, N heads, K kv heads, H head dim, F ffn, V vocab, L layers,
M = B*T. Activations are flattened to [M, D] between the attentions: XLA's CPU backend runs the backward of a 3-D
matmul at half the speed of a 2-D one. The weights of all layers are stacked on a leading axis [L, ...]; the walk is
a scan over it, so that compile time and code do not grow with the depth.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from engine.trainer.models import layers
from engine.trainer.models.config import DecoderConfig
from engine.trainer.models.remat import LAYER_INPUT, recomputed
from engine.trainer.models.table import WeightTable
from engine.trainer.ops.blocked_attention import TokenPositions, blocked_attention, spread_attention
from engine.trainer.ops.matmul import matmul

# Up to here the layers are written out one after the other: 12 % more tokens/s on CPU than a loop
# (34.6 M parameters, 8 layers: 721 against 644). Deeper models would pay in compile time and memory.
MAX_UNROLLED_LAYERS = 8

# The window of a layer without one. Not max_position_embeddings: a longer text would silently get that as a window.
ENDLESS = 2**31 - 1

Weights = Mapping[str, jax.Array]
Tables = tuple[jax.Array, jax.Array]  # cos and sin f32[B, T, H/2]
# (q [B, T, N, H], k and v [B, T, K, H]) -> (mixed [M, N*H], what the walk keeps of it)
Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


class KeyValueCache(NamedTuple):
    """Keys and values of the tokens seen, by layer and by block of slots; slot s of a row holds its position s.

    k[layer][block] is [B, K, H, S], v[layer][block] [B, K, S, H]: the layouts that decoding's matmuls want (with k as
    [B, S, K, H] they take twice the time on CPU). The blocks are arrays of their own, so that one is read without a copy
    and so that those that nobody has reached are not read at all; see :func:`layers.block_sizes`.
    """

    k: tuple[tuple[jax.Array, ...], ...]
    v: tuple[tuple[jax.Array, ...], ...]


class Context(NamedTuple):
    """What every layer of a walk is given: rotary tables [R, B, T, H/2] of the R different ropes, and who sees whom."""

    cos: jax.Array
    sin: jax.Array
    mask: jax.Array | None  # bool[B, T, S] without any window; None where attention goes in blocks
    distance: jax.Array | None  # i32[B, T, S]: how far back a key lies; None where no layer has a window
    places: TokenPositions  # of the queries: what attention in blocks makes its masks of
    mesh: Any = None  # over which rows are dealt out, and heads of attention in blocks; None on one device


class LayerWeights(nnx.Module):
    """The weights of all layers, stacked; one parameter a row of the family's table."""

    def __init__(self, weights: Weights) -> None:
        for name, array in weights.items():
            if name.startswith("layers."):
                setattr(self, name.removeprefix("layers."), nnx.Param(array))


class Decoder(nnx.Module):
    """Abstract; a family's final class says what a block is.

    ``compute_dtype`` is the dtype of activations and matmuls; weights keep their own. ``matmul_dtype`` is that of the
    operands of products with weights, where it is another (:mod:`engine.trainer.ops.matmul`); training sets it.
    """

    TABLE: ClassVar[WeightTable]

    def __init__(
        self, config: Any, weights: Weights, *, compute_dtype: Any = jnp.float32, lora: nnx.Module | None = None
    ) -> None:
        self.config: DecoderConfig = config
        self.compute_dtype = jnp.dtype(compute_dtype)
        self.matmul_dtype: str | None = None
        self.embed = nnx.Param(weights["embed"])
        self.layers = LayerWeights(weights)
        self.norm = nnx.Param(weights["norm"])
        self.lora: Any = lora  # adapters beside the layers' matrices (engine.trainer.lora.adapters), or none

    @abc.abstractmethod
    def block(self, x: jax.Array, w: Weights, rope: Tables, mix: Mix) -> tuple[jax.Array, Any]:
        """One layer: x [M, D], this layer's weights, its rotary tables -> (x [M, D], what ``mix`` keeps)."""

    def weights(self) -> dict[str, jax.Array]:
        """Dotted name -> array, in the order of the family's table."""
        found = {}
        for leaf in self.TABLE.leaves:
            owner = self.layers if leaf.name.startswith("layers.") else self
            found[leaf.name] = getattr(owner, leaf.name.removeprefix("layers."))[...]
        return found

    def __call__(self, tokens: jax.Array, *, positions: jax.Array, segment_ids: jax.Array | None = None) -> jax.Array:
        """tokens i32[B, T] -> logits f32[B, T, V]."""
        return self.unembed(self.hidden(tokens, positions=positions, segment_ids=segment_ids))

    def hidden(
        self,
        tokens: jax.Array,
        *,
        positions: jax.Array,
        segment_ids: jax.Array | None = None,
        remat: str = "none",
        blocked: bool = False,
        mesh: Any = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """tokens, positions, segment_ids i32[B, T] -> final normed states [B, T, D].

        Segment 0 is padding. Tokens see earlier tokens of their own segment only, so that rows packed
        into one sequence do not see each other. ``remat`` is one of REMAT. ``blocked``: attention in blocks, no
        [T, T] scores. ``dropout_key``: adapters that have dropout use it; without a key nothing is dropped.
        """
        batch, length = tokens.shape
        context = self.whole_context(positions, segment_ids, blocked=blocked, mesh=mesh)

        def layer(x: jax.Array, item: Any) -> tuple[jax.Array, None]:
            kind, weights = item
            return self.layer(x, kind, weights, context), None

        items = (self.kinds(), self.stacked(dropout_key))
        x, _ = jax.lax.scan(recomputed(layer, remat), self.embed_tokens(tokens), items, unroll=self._unroll())
        return self.normed(x).reshape(batch, length, -1)

    # --- the pieces of the walk, pure in what they are given, for those who walk otherwise ---

    def whole_context(
        self, positions: jax.Array, segment_ids: jax.Array | None, *, blocked: bool = False, mesh: Any = None
    ) -> Context:
        """What all layers share when whole sequences are seen at once; positions and segment_ids i32[B, T]."""
        batch, length = positions.shape
        mask = None if blocked else layers.causal_mask(segment_ids, batch, length)
        segments = jnp.ones_like(positions) if segment_ids is None else segment_ids
        return self.context(positions, mask, positions, segments)._replace(mesh=mesh)

    def context(
        self,
        positions: jax.Array,
        mask: jax.Array | None,
        key_positions: jax.Array,
        segment_ids: jax.Array | None = None,
    ) -> Context:
        """positions i32[B, T], mask bool[B, T, S], key_positions i32[B, S] -> what all layers share."""
        cos, sin = self.rope_tables(positions)
        windowed = self.config.layer_windows() is not None and mask is not None
        distance = positions[:, :, None] - key_positions[:, None, :] if windowed else None
        places = TokenPositions(positions, jnp.ones_like(positions) if segment_ids is None else segment_ids)
        return Context(cos, sin, mask, distance, places)

    def rope_tables(self, positions: jax.Array) -> Tables:
        """positions i32[B, T] -> cos and sin f32[R, B, T, H/2] of the R different ropes."""
        tables = [layers.rope_tables(positions, self.config.head_dim, *rope) for rope in self.config.ropes()]
        cos, sin = (jnp.stack(parts) for parts in zip(*tables, strict=True))
        return cos, sin

    def kinds(self) -> dict[str, jax.Array]:
        """What tells the layers apart beside their weights, each i32[L]; nothing where they are all alike."""
        found = {}
        ropes, windows = self.config.layer_ropes(), self.config.layer_windows()
        if ropes is not None:
            found["rope"] = jnp.asarray(ropes, jnp.int32)
        if windows is not None:
            found["window"] = jnp.asarray([ENDLESS if size is None else size for size in windows], jnp.int32)
        return found

    def stacked(self, dropout_key: jax.Array | None = None) -> dict[str, jax.Array]:
        """Name of a layer's weight -> [L, ...], as stored; what adapters need has a dot in its name."""
        prefix = "layers."
        found = {name.removeprefix(prefix): array for name, array in self.weights().items() if name.startswith(prefix)}
        return found | (self.lora.stacked(self.config.num_hidden_layers, dropout_key) if self.lora else {})

    def layer(self, x: jax.Array, kind: Weights, weights: Weights, context: Context) -> jax.Array:
        """One layer over whole sequences: x [M, D] -> [M, D]. ``kind`` and ``weights``: its part of kinds(), stacked()."""
        x = checkpoint_name(_dealt_out(x, context.mesh), LAYER_INPUT)

        def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, None]:
            softcap = self.config.attention_softcap
            q, k, v = (_dealt_out(part, context.mesh) for part in (q, k, v))
            if context.mask is None:
                attend = blocked_attention if context.mesh is None else partial(spread_attention, mesh=context.mesh)
                mixed = attend(q, k, v, context.places, window=kind.get("window"), softcap=softcap)
            else:
                mixed = layers.causal_attention(
                    q, k, v, _in_window(context.mask, context.distance, kind), softcap=softcap
                )
            return mixed.reshape(x.shape[0], -1), None  # [M, N*H]

        return self.block(x, self._cast(weights), _rope(context, kind), mix)[0]

    def embed_tokens(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, T] -> [M, D], scaled by sqrt(D) rounded to the compute dtype as Hugging Face does."""
        rows = self.embed[...][tokens.reshape(-1)].astype(self.compute_dtype)  # [M, D]
        return rows * jnp.asarray(math.sqrt(self.config.hidden_size), self.compute_dtype)

    def normed(self, x: jax.Array) -> jax.Array:
        """The last norm: x [..., D] -> [..., D]."""
        return self.normed_by(x, self.norm[...])

    def normed_by(self, x: jax.Array, gain: jax.Array) -> jax.Array:
        """The last norm with a gain [D] that is given, so that one can differentiate by it."""
        return layers.rms_norm(x, gain, self.config.rms_norm_eps)

    def unembed(self, states: jax.Array, *, head: jax.Array | None = None) -> jax.Array:
        """states [..., D] -> logits f32[..., V]; the head is the embedding (tied), or a transposed copy [D, V] of it."""
        flat = states.reshape(-1, states.shape[-1])  # [M, D]
        if self.matmul_dtype is not None:
            logits = matmul(flat, self.embed[...].T, self.matmul_dtype, out=jnp.float32)
        elif head is None:
            table = self.embed[...].astype(self.compute_dtype)  # [V, D]
            logits = jnp.einsum("md,vd->mv", flat, table, preferred_element_type=jnp.float32)
        else:
            logits = jnp.matmul(flat, head, preferred_element_type=jnp.float32)
        logits = layers.soft_cap(logits, self.config.final_softcap)
        return logits.reshape(*states.shape[:-1], -1)  # [..., V]

    # --- with a cache ---

    def init_cache(self, batch: int, length: int, dtype: Any | None = None) -> KeyValueCache:
        """An empty cache for ``length`` positions per row at least, in the compute dtype unless told."""
        config, sizes = self.config, layers.block_sizes(length)
        rows, wide = (batch, config.num_key_value_heads), config.head_dim
        depth, dtype = range(config.num_hidden_layers), dtype or self.compute_dtype
        return KeyValueCache(
            tuple(tuple(jnp.zeros((*rows, wide, size), dtype) for size in sizes) for _ in depth),
            tuple(tuple(jnp.zeros((*rows, size, wide), dtype) for size in sizes) for _ in depth),
        )

    def unstacked(self) -> tuple[dict[str, jax.Array], ...]:
        """The weights of each layer by themselves, matrices in the compute dtype: what :meth:`extend` walks over.

        Made once for a generation: taken from the stack at each step they would be copied, all of them.
        """
        stacked = self._in_compute_dtype(self.stacked())
        return tuple({name: array[i] for name, array in stacked.items()} for i in range(self.config.num_hidden_layers))

    def extend(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KeyValueCache,
        *,
        rows: jax.Array | None = None,
        last: jax.Array | None = None,
        unstacked: Sequence[Weights] | None = None,
    ) -> tuple[jax.Array, KeyValueCache]:
        """Append tokens i32[B, T] at positions i32[B, T] of each row -> (states [B, T, D], cache).

        Serves the prompt (T > 1) and decoding (T = 1). Key and value of position p go to slot p, and a
        query at p sees slots 0..p (of its window). So rows of different length need no left padding.
        A position outside the cache (-1, say) is not written. ``rows`` i32[B]: which rows of a larger cache these are;
        ``last`` i32[B]: the one column of each row whose state is wanted (states [B, 1, D] then), which spares the last
        layer most of its work; ``unstacked``: what :meth:`unstacked` gave.

        The layers are written out one after the other: their windows and ropes are then constants, and each one's cache
        is an array of its own that is written in place.
        """
        batch, length = tokens.shape
        size = sum(values.shape[2] for values in cache.v[0])
        blocks, tables = layers.cache_blocks(size, positions, rows), self.rope_tables(positions)
        x = self.embed_tokens(tokens)  # [M, D]
        keys, values = [], []
        unstacked = unstacked or self.unstacked()
        for index, weights in enumerate(unstacked):
            stored = list(zip(cache.k[index], cache.v[index], strict=True))
            before, (x, stored) = x, self._cached_layer(index, x, weights, tables, blocks, stored, write=True)
            keys.append(tuple(k for k, _ in stored))
            values.append(tuple(v for _, v in stored))
        if last is not None:
            # The last layer again, for one column that sees what it has written: of the walk above, the compiler
            # keeps only the keys and values.
            length, at = 1, last[:, None]
            positions = jnp.take_along_axis(positions, at, axis=1)  # [B, 1]
            blocks, tables = layers.cache_blocks(size, positions, rows), self.rope_tables(positions)
            before = jnp.take_along_axis(before.reshape(batch, -1, x.shape[1]), at[:, :, None], axis=1)[:, 0, :]
            x, _ = self._cached_layer(index, before, weights, tables, blocks, stored, write=False)
        return self.normed(x).reshape(batch, length, -1), KeyValueCache(tuple(keys), tuple(values))

    def _cached_layer(
        self,
        index: int,
        x: jax.Array,
        weights: Weights,
        tables: Tables,
        blocks: Sequence[layers.CacheBlock],
        stored: Sequence[tuple[jax.Array, jax.Array]],
        *,
        write: bool,
    ) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
        """One layer of :meth:`extend`: x [M, D], rotary tables [R, B, T, H/2], its keys and values by block -> x, those."""
        ropes, windows = self.config.layer_ropes(), self.config.layer_windows()
        rope = 0 if ropes is None else ropes[index]

        def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
            new = [block.write(k, v, *pair) if write else pair for block, pair in zip(blocks, stored, strict=True)]
            mixed = layers.cached_attention(
                q,
                [(block, *pair) for block, pair in zip(blocks, new, strict=True)],
                window=None if windows is None else windows[index],
                softcap=self.config.attention_softcap,
            )
            return mixed.reshape(x.shape[0], -1), new  # [M, N*H]

        return self.block(x, weights, (tables[0][rope], tables[1][rope]), mix)

    def _unroll(self) -> int:
        depth = self.config.num_hidden_layers
        return depth if depth <= MAX_UNROLLED_LAYERS else 1

    def _cast(self, weights: Weights) -> layers.Matrices:
        """Matrices in the compute dtype; the gains of norms and adapters as stored (they work in f32).

        Where products have a dtype of their own the matrices stay as stored too: the product casts them.
        """
        found = layers.Matrices(weights if self.matmul_dtype else self._in_compute_dtype(weights))
        found.matmul_dtype = self.matmul_dtype
        return found

    def _in_compute_dtype(self, weights: Weights) -> dict[str, jax.Array]:
        return {
            name: array if name.endswith("norm") or "." in name else array.astype(self.compute_dtype)
            for name, array in weights.items()
        }


def _dealt_out(x: jax.Array, mesh: Any) -> jax.Array:
    """Activations whose first axis is rows, or rows times tokens: each device of fsdp has its own rows.

    Said, not left to the compiler, which may have every device multiply all rows by a part of a weight, and then keep all
    rows' queries.
    """
    if mesh is None:
        return x
    free = (jax.P.UNCONSTRAINED,) * (x.ndim - 1)
    spread: jax.Array = jax.lax.with_sharding_constraint(x, jax.NamedSharding(mesh, jax.P("fsdp", *free)))
    return spread


def _rope(context: Context, kind: Weights) -> Tables:
    """The layer's own rotary tables f32[B, T, H/2]."""
    index: Any = kind.get("rope", 0)
    return context.cos[index], context.sin[index]


def _in_window(mask: jax.Array, distance: jax.Array | None, kind: Weights) -> jax.Array:
    """bool[B, T, S]: what the layer sees. A window of w is a token itself and the w - 1 before it."""
    return mask if distance is None else jnp.logical_and(mask, distance < kind["window"])
