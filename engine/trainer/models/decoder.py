"""The walk through the layers that all families share; what one layer does is the family's :meth:`Decoder.block`.

In: token ids, positions, segment ids. Out: logits, or hidden states for the positions whose
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
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from engine.model_config.decoder import DecoderConfig
from engine.trainer.models import layers, unstacked
from engine.trainer.models.cached import CacheBlock, KeyValueCache, block_sizes, cache_blocks, cached_attention
from engine.trainer.models.remat import LAYER_INPUT, with_remat
from engine.trainer.models.table import WeightTable
from engine.trainer.ops.blocked_attention import Mesh, TokenPositions, blocked_attention, sharded_attention
from engine.trainer.ops.fused_attention import Kernel, LayerMask, kernel_attention
from engine.trainer.ops.matmul import MatmulRule, matmul_turned

# Up to this depth the layers are unrolled: 12 % more tokens/s on CPU than a loop
# (34.6 M parameters, 8 layers: 721 against 644). Deeper models would pay in compile time and memory.
MAX_UNROLLED_LAYERS = 8

# The window of a layer without one. Not max_position_embeddings: a longer text would silently get that as a window.
NO_WINDOW = 2**31 - 1

Weights = Mapping[str, jax.Array]
Tables = tuple[jax.Array, jax.Array]  # cos and sin f32[B, T, H/2]
Carried = TypeVar("Carried")
# (q [B, T, N, H], k and v [B, T, K, H]) -> (mixed [M, N*H], what the walk carries on: a cache, or None)
Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Carried]]


class Context(NamedTuple):
    """What all layers share: rotary tables [R, B, T, H/2] of the R different ropes, and which token attends to which."""

    cos: jax.Array
    sin: jax.Array
    mask: jax.Array | None  # bool[B, T, S] without any window; None for attention in blocks
    distance: jax.Array | None  # i32[B, T, S]: how far back a key is; None where no layer has a window
    token_positions: TokenPositions  # of the queries; attention in blocks makes its masks from them
    mesh: Mesh | None = None  # rows are sharded over it, and heads of attention in blocks; None on one device


class Adapters(Protocol):
    """Low-rank adapters of all layers (engine.trainer.lora.adapters)."""

    def stacked(self, depth: int, dropout_key: jax.Array | None) -> dict[str, jax.Array]:
        """What :func:`layers.project` reads beside a layer's weights, each [L, ...]."""


class LayerWeights(nnx.Module):
    """The weights of all layers, stacked; one parameter for each row of the family's table."""

    def __init__(self, weights: Weights) -> None:
        for name, array in weights.items():
            if name.startswith("layers."):
                setattr(self, name.removeprefix("layers."), nnx.Param(array))


class Decoder(nnx.Module):
    """Abstract; a family's final class defines the block.

    ``compute_dtype`` is the dtype of activations and matmuls; weights keep their own. ``matmul`` says how
    operands of matmuls are multiplied, where not as they are (:mod:`engine.trainer.ops.matmul`); training sets it.
    """

    TABLE: ClassVar[WeightTable]

    def __init__(
        self,
        config: DecoderConfig,
        weights: Weights,
        *,
        compute_dtype: DTypeLike = jnp.float32,
        lora: Adapters | None = None,
    ) -> None:
        self.config = config
        self.compute_dtype = jnp.dtype(compute_dtype)
        self.matmul: MatmulRule | None = None
        self.kernel: Kernel | None = None  # of attention; None: what ``blocked`` says
        self.embed = nnx.Param(weights["embed"])
        self.layers = LayerWeights(weights)
        self.norm = nnx.Param(weights["norm"])
        self.lora = lora  # adapters beside the layers' matrices, or none

    @abc.abstractmethod
    def block(self, x: jax.Array, w: Weights, rope: Tables, mix: Mix[Carried]) -> tuple[jax.Array, Carried]:
        """One layer: x [M, D], this layer's weights, its rotary tables -> (x [M, D], what ``mix`` carries on)."""

    def weights(self) -> dict[str, jax.Array]:
        """Dotted name -> array, in the order of the family's table."""
        weights = {}
        for leaf in self.TABLE.leaves:
            owner = self.layers if leaf.name.startswith("layers.") else self
            weights[leaf.name] = getattr(owner, leaf.name.removeprefix("layers."))[...]
        return weights

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
        mesh: Mesh | None = None,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """tokens, positions, segment_ids i32[B, T] -> final normed states [B, T, D].

        Segment 0 is padding. Tokens attend to earlier tokens of their own segment only, so that rows packed into one
        sequence do not affect each other. ``remat`` is one of REMAT. ``blocked``: attention in blocks, no [T, T] scores.
        ``dropout_key``: for adapters with dropout; without a key nothing is dropped.
        """
        batch, length = tokens.shape
        context = self.sequence_context(positions, segment_ids, blocked=blocked, mesh=mesh)

        def layer(x: jax.Array, item: tuple[Weights, Weights]) -> tuple[jax.Array, None]:
            kind, weights = item
            return self.layer(x, kind, weights, context), None

        items = (self.layer_kinds(), self.stacked(dropout_key))
        x, _ = jax.lax.scan(with_remat(layer, remat), self.embed_tokens(tokens), items, unroll=self._unroll())
        return self.final_norm(x).reshape(batch, length, -1)

    # --- the pieces of the walk, pure functions of their arguments, for callers with a walk of their own ---

    def sequence_context(
        self, positions: jax.Array, segment_ids: jax.Array | None, *, blocked: bool = False, mesh: Mesh | None = None
    ) -> Context:
        """What all layers share when entire sequences are processed at once; positions and segment_ids i32[B, T]."""
        batch, length = positions.shape
        mask = None if blocked and self.kernel != "cudnn" else layers.causal_mask(segment_ids, batch, length)
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
        segments = jnp.ones_like(positions) if segment_ids is None else segment_ids
        return Context(cos, sin, mask, distance, TokenPositions(positions, segments))

    def rope_tables(self, positions: jax.Array) -> Tables:
        """positions i32[B, T] -> cos and sin f32[R, B, T, H/2] of the R different ropes."""
        tables = [layers.rope_tables(positions, self.config.head_dim, *rope) for rope in self.config.ropes()]
        cos, sin = (jnp.stack(parts) for parts in zip(*tables, strict=True))
        # The barrier keeps the tables: the compiler would compute them again in each layer that reads them.
        barred: Tables = jax.lax.optimization_barrier((cos, sin))
        return barred

    def layer_kinds(self) -> dict[str, jax.Array]:
        """What distinguishes the layers beside their weights, each i32[L]; empty where all layers are alike."""
        kinds = {}
        ropes, windows = self.config.layer_ropes(), self.config.layer_windows()
        if ropes is not None:
            kinds["rope"] = jnp.asarray(ropes, jnp.int32)
        if windows is not None:
            kinds["window"] = jnp.asarray([NO_WINDOW if size is None else size for size in windows], jnp.int32)
        return kinds

    def stacked(self, dropout_key: jax.Array | None = None) -> dict[str, jax.Array]:
        """Name of a layer's weight -> [L, ...], as stored; names of what adapters need have a dot."""
        prefix = "layers."
        stacks = {name.removeprefix(prefix): array for name, array in self.weights().items() if name.startswith(prefix)}
        return stacks | (self.lora.stacked(self.config.num_hidden_layers, dropout_key) if self.lora else {})

    def layer(self, x: jax.Array, kind: Weights, weights: Weights, context: Context) -> jax.Array:
        """One layer over entire sequences: x [M, D] -> [M, D]. Its parts of layer_kinds() and stacked() are given."""
        x = checkpoint_name(_shard_rows(x, context.mesh), LAYER_INPUT)

        def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, None]:
            softcap = self.config.attention_softcap
            q, k, v = (_shard_rows(part, context.mesh) for part in (q, k, v))
            rule = self._attention_rule()
            if self.kernel is not None or context.mask is None:
                q, k, v = (part.astype(rule.dtype) if rule else part for part in (q, k, v))
            window = kind.get("window")
            mask = None if context.mask is None else layers.in_window(context.mask, context.distance, window)
            if self.kernel is not None:
                layer = LayerMask(mask, context.token_positions, window, self.config.layer_windows())
                mixed = kernel_attention(self.kernel, q, k, v, layer, softcap=softcap, mesh=context.mesh)
            elif mask is None:
                attend = blocked_attention if context.mesh is None else partial(sharded_attention, mesh=context.mesh)
                mixed = attend(q, k, v, context.token_positions, window=window, softcap=softcap)
            else:
                mixed = layers.causal_attention(q, k, v, mask, softcap=softcap, rule=rule)
            return mixed.reshape(x.shape[0], -1).astype(x.dtype), None  # [M, N*H]

        return self.block(x, self._cast(weights), _rope(context, kind), mix)[0]

    def embed_tokens(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, T] -> [M, D], scaled by sqrt(D) rounded to the compute dtype as Hugging Face does."""
        rows = self.embed[...][tokens.reshape(-1)].astype(self.compute_dtype)  # [M, D]
        return rows * jnp.asarray(math.sqrt(self.config.hidden_size), self.compute_dtype)

    def final_norm(self, x: jax.Array) -> jax.Array:
        """The last norm: x [..., D] -> [..., D]."""
        return self.final_norm_by(x, self.norm[...])

    def final_norm_by(self, x: jax.Array, gain: jax.Array) -> jax.Array:
        """The last norm with its gain [D] as an argument, to differentiate with respect to it."""
        return layers.rms_norm(x, gain, self.config.rms_norm_eps)

    def unembed(self, states: jax.Array) -> jax.Array:
        """states [..., D] -> logits f32[..., V]; the head is the embedding (tied)."""
        flat = states.reshape(-1, states.shape[-1])  # [M, D]
        logits = matmul_turned(flat, self.embed[...], self.matmul, out=jnp.float32)
        logits = layers.soft_cap(logits, self.config.final_softcap)
        return logits.reshape(*states.shape[:-1], -1)  # [..., V]

    # --- with a cache ---

    def init_cache(self, batch: int, length: int, dtype: DTypeLike | None = None) -> KeyValueCache:
        """An empty cache for at least ``length`` positions per row; ``dtype``: the compute dtype by default.

        float32 where a CPU multiplies in bfloat16: it writes single places of a bfloat16 array by turning all of it into
        float32 and back, at each token.
        """
        config, sizes = self.config, block_sizes(length)
        rows, wide = (batch, config.num_key_value_heads), config.head_dim
        own = jnp.float32 if self.matmul and self.matmul.row_major else self.compute_dtype
        depth, dtype = range(config.num_hidden_layers), dtype or own
        return KeyValueCache(
            tuple(tuple(jnp.zeros((*rows, wide, size), dtype) for size in sizes) for _ in depth),
            tuple(tuple(jnp.zeros((*rows, size, wide), dtype) for size in sizes) for _ in depth),
        )

    def unstacked(self, rule: MatmulRule | None = None, dtype: str | None = None) -> tuple[dict[str, jax.Array], ...]:
        """The weights of each layer as arrays of their own, for :meth:`extend` (:mod:`engine.trainer.models.unstacked`).

        Made once for a generation: slicing the stacks at each step would copy all of them. ``rule``: that of the program
        that reads them, by default :attr:`matmul`; ``dtype``: of the matrices, by default the compute dtype; "int8" too.
        """
        dtype = dtype or str(self.compute_dtype)
        return unstacked.layer_weights(self.stacked(), self.config.num_hidden_layers, rule or self.matmul, dtype)

    def extend(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: KeyValueCache,
        *,
        rows: jax.Array | None = None,
        weights: Sequence[Weights] | None = None,
    ) -> tuple[jax.Array, KeyValueCache]:
        """Append tokens i32[B, T] at positions i32[B, T] of each row -> (states [B, T, D], cache).

        Used for the prompt (T > 1) and for decoding (T = 1). Key and value of position p go to slot p, and a query at p
        attends to slots 0..p (within its window). So rows of different length need no left padding. A position outside
        the cache (-1, say) is not written. ``rows`` i32[B]: which rows of a larger cache these are; one may come several
        times, with different positions. ``weights``: the result of :meth:`unstacked`.

        The layers are unrolled: their windows and ropes are then constants, and each layer's cache is an array of its
        own that is written in place.
        """
        batch, length = tokens.shape
        size = sum(values.shape[2] for values in cache.v[0])
        blocks, tables = cache_blocks(size, positions, rows), self.rope_tables(positions)
        x = self.embed_tokens(tokens)  # [M, D]
        keys, values = [], []
        for index, layer_weights in enumerate(weights or self.unstacked()):
            stored = list(zip(cache.k[index], cache.v[index], strict=True))
            x, stored = self._cached_layer(index, x, layer_weights, tables, blocks, stored)
            keys.append(tuple(k for k, _ in stored))
            values.append(tuple(v for _, v in stored))
        return self.final_norm(x).reshape(batch, length, -1), KeyValueCache(tuple(keys), tuple(values))

    def _cached_layer(
        self,
        index: int,
        x: jax.Array,
        weights: Weights,
        tables: Tables,
        blocks: Sequence[CacheBlock],
        stored: Sequence[tuple[jax.Array, jax.Array]],
    ) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
        """One layer of :meth:`extend`: x [M, D], rotary tables [R, B, T, H/2], keys and values by block -> x, the latter."""
        ropes, windows = self.config.layer_ropes(), self.config.layer_windows()
        rope = 0 if ropes is None else ropes[index]

        def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
            new = [block.write(k, v, *pair) for block, pair in zip(blocks, stored, strict=True)]
            mixed = cached_attention(
                q,
                [(block, *pair) for block, pair in zip(blocks, new, strict=True)],
                window=None if windows is None else windows[index],
                softcap=self.config.attention_softcap,
            )
            return mixed.reshape(x.shape[0], -1), new  # [M, N*H]

        matrices = unstacked.matrices(weights, self.matmul, self.config)
        return self.block(x, matrices, (tables[0][rope], tables[1][rope]), mix)

    def _unroll(self) -> int:
        depth = self.config.num_hidden_layers
        return depth if depth <= MAX_UNROLLED_LAYERS else 1

    def _cast(self, weights: Weights) -> layers.Matrices:
        """Matrices in the compute dtype; gains of norms and adapters as stored (they are used in f32).

        With a rule for matmuls the matrices stay as stored too: the matmul casts them.
        """
        matrices = layers.Matrices(weights if self.matmul else unstacked.in_dtype(weights, self.compute_dtype))
        matrices.matmul = self.matmul
        return matrices

    def _attention_rule(self) -> MatmulRule | None:
        """That of matmuls with weights where it is bfloat16; float16 has no room for scores and their gradients."""
        return self.matmul if self.matmul and self.matmul.dtype == "bfloat16" else None


def _shard_rows(x: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Activations whose first axis is rows, or rows times tokens: sharded over fsdp along it.

    An explicit constraint: the compiler may otherwise have every device multiply all rows by a shard of a weight, and
    then hold the queries of all rows.
    """
    if mesh is None:
        return x
    free = (jax.P.UNCONSTRAINED,) * (x.ndim - 1)
    sharded: jax.Array = jax.lax.with_sharding_constraint(x, jax.NamedSharding(mesh, jax.P("fsdp", *free)))
    return sharded


def _rope(context: Context, kind: Weights) -> Tables:
    """The layer's own rotary tables f32[B, T, H/2]."""
    index: Any = kind.get("rope", 0)  # traced, or the only one
    return context.cos[index], context.sin[index]
