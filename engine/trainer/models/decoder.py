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
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from engine.trainer.models import layers
from engine.trainer.models.config import DecoderConfig
from engine.trainer.models.table import WeightTable

# Up to here the layers are written out one after the other: 12 % more tokens/s on CPU than a loop
# (34.6 M parameters, 8 layers: 721 against 644). Deeper models would pay in compile time and memory.
MAX_UNROLLED_LAYERS = 8

# The window of a layer without one. Not max_position_embeddings: a longer text would silently get that as a window.
ENDLESS = 2**31 - 1

LAYER_INPUT = "layer_input"  # the name under which a remat policy finds what a layer is given

Weights = Mapping[str, jax.Array]
Tables = tuple[jax.Array, jax.Array]  # cos and sin f32[B, T, H/2]
# (q [B, T, N, H], k and v [B, T, K, H]) -> (mixed [M, N*H], what the walk keeps of it)
Mix = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]


class Cache(NamedTuple):
    """Keys and values of the tokens seen: k and v [L, B, S, K, H]; slot s of a row holds its position s."""

    k: jax.Array
    v: jax.Array


class Context(NamedTuple):
    """What every layer of a walk is given: rotary tables [R, B, T, H/2] of the R different ropes, and who sees whom."""

    cos: jax.Array
    sin: jax.Array
    mask: jax.Array  # bool[B, T, S] without any window
    distance: jax.Array | None  # i32[B, T, S]: how far back a key lies; None where no layer has a window


class LayerWeights(nnx.Module):
    """The weights of all layers, stacked; one parameter a row of the family's table."""

    def __init__(self, weights: Weights) -> None:
        for name, array in weights.items():
            if name.startswith("layers."):
                setattr(self, name.removeprefix("layers."), nnx.Param(array))


class Decoder(nnx.Module):
    """Abstract; a family's final class says what a block is.

    ``compute_dtype`` is the dtype of activations and matmuls; weights keep their own.
    """

    TABLE: ClassVar[WeightTable]

    def __init__(
        self, config: Any, weights: Weights, *, compute_dtype: Any = jnp.float32, lora: nnx.Module | None = None
    ) -> None:
        self.config: DecoderConfig = config
        self.compute_dtype = jnp.dtype(compute_dtype)
        self.embed = nnx.Param(weights["embed"])
        self.layers = LayerWeights(weights)
        self.norm = nnx.Param(weights["norm"])
        self.lora: Any = lora  # adapters beside the layers' matrices (engine.trainer.lora), or none

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
        remat: bool = False,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """tokens, positions, segment_ids i32[B, T] -> final normed states [B, T, D].

        Segment 0 is padding. Tokens see earlier tokens of their own segment only, so that rows packed
        into one sequence do not see each other. ``remat`` recomputes each layer in the backward pass.
        ``dropout_key``: adapters that have dropout use it; without a key nothing is dropped.
        """
        batch, length = tokens.shape
        context = self.context(positions, layers.causal_mask(segment_ids, batch, length), positions)

        def layer(x: jax.Array, item: Any) -> tuple[jax.Array, None]:
            kind, weights = item
            return self.layer(x, kind, weights, context), None

        body: Callable[..., Any] = jax.checkpoint(layer) if remat else layer
        items = (self.kinds(), self.stacked(dropout_key))
        x, _ = jax.lax.scan(body, self.embed_tokens(tokens), items, unroll=self._unroll())
        return self.normed(x).reshape(batch, length, -1)

    # --- the pieces of the walk, pure in what they are given, for those who walk otherwise ---

    def context(self, positions: jax.Array, mask: jax.Array, key_positions: jax.Array) -> Context:
        """positions i32[B, T], mask bool[B, T, S], key_positions i32[B, S] -> what all layers share."""
        tables = [layers.rope_tables(positions, self.config.head_dim, *rope) for rope in self.config.ropes()]
        cos, sin = (jnp.stack(parts) for parts in zip(*tables, strict=True))  # [R, B, T, H/2]
        windowed = self.config.layer_windows() is not None
        distance = positions[:, :, None] - key_positions[:, None, :] if windowed else None
        return Context(cos, sin, mask, distance)

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
        x = checkpoint_name(x, LAYER_INPUT)
        seen = _in_window(context, kind)

        def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, None]:
            mixed = layers.attention(q, k, v, seen, softcap=self.config.attention_softcap)
            return mixed.reshape(x.shape[0], -1), None  # [M, N*H]

        return self.block(x, self._cast(weights), _rope(context, kind), mix)[0]

    def embed_tokens(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, T] -> [M, D], scaled by sqrt(D) rounded to the compute dtype as Hugging Face does."""
        rows = self.embed[...][tokens.reshape(-1)].astype(self.compute_dtype)  # [M, D]
        return rows * jnp.asarray(math.sqrt(self.config.hidden_size), self.compute_dtype)

    def normed(self, x: jax.Array) -> jax.Array:
        """The last norm: x [..., D] -> [..., D]."""
        return layers.rms_norm(x, self.norm[...], self.config.rms_norm_eps)

    def unembed(self, states: jax.Array) -> jax.Array:
        """states [..., D] -> logits f32[..., V]; the head is the embedding (tied)."""
        table = self.embed[...].astype(self.compute_dtype)  # [V, D]
        flat = states.reshape(-1, states.shape[-1])  # [M, D]
        logits = jnp.einsum("md,vd->mv", flat, table, preferred_element_type=jnp.float32)
        logits = layers.soft_cap(logits, self.config.final_softcap)
        return logits.reshape(*states.shape[:-1], -1)  # [..., V]

    # --- with a cache ---

    def init_cache(self, batch: int, length: int, dtype: Any | None = None) -> Cache:
        """An empty cache for ``length`` positions per row, in the compute dtype unless told."""
        config = self.config
        shape = (config.num_hidden_layers, batch, length, config.num_key_value_heads, config.head_dim)
        zeros = jnp.zeros(shape, dtype or self.compute_dtype)
        return Cache(zeros, zeros)

    def extend(self, tokens: jax.Array, positions: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Append tokens i32[B, T] at positions i32[B, T] of each row -> (states [B, T, D], cache).

        Serves the prompt (T > 1) and decoding (T = 1). Key and value of position p go to slot p, and a
        query at p sees slots 0..p (of its window). So rows of different length need no left padding: the padding
        to the right of a short prompt lies in slots that nothing sees before a real token overwrites them.
        A position outside the cache is not written.
        """
        batch, length = tokens.shape
        slots = jnp.broadcast_to(jnp.arange(cache.k.shape[2], dtype=jnp.int32)[None, :], (batch, cache.k.shape[2]))
        context = self.context(positions, slots[:, None, :] <= positions[:, :, None], slots)
        rows = jnp.arange(batch, dtype=jnp.int32)[:, None]  # [B, 1]

        def layer(carry: Any, item: Any) -> tuple[Any, None]:
            x, keys, values = carry
            index, kind, weights = item

            def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
                # The whole cache is carried and written in place: as a scanned output it would be copied.
                new_keys = keys.at[index, rows, positions].set(k.astype(keys.dtype), mode="drop")
                new_values = values.at[index, rows, positions].set(v.astype(values.dtype), mode="drop")
                seen_k, seen_v = new_keys[index].astype(q.dtype), new_values[index].astype(q.dtype)  # [B, S, K, H]
                seen = _in_window(context, kind)
                mixed = layers.attention(q, seen_k, seen_v, seen, softcap=self.config.attention_softcap)
                return mixed.reshape(x.shape[0], -1), (new_keys, new_values)  # [M, N*H]

            x_after, (keys, values) = self.block(x, self._cast(weights), _rope(context, kind), mix)
            return (x_after, keys, values), None

        numbers = jnp.arange(self.config.num_hidden_layers, dtype=jnp.int32)
        start = (self.embed_tokens(tokens), cache.k, cache.v)
        items = (numbers, self.kinds(), self.stacked())
        (x, keys, values), _ = jax.lax.scan(layer, start, items, unroll=self._unroll())
        return self.normed(x).reshape(batch, length, -1), Cache(keys, values)

    def _unroll(self) -> int:
        depth = self.config.num_hidden_layers
        return depth if depth <= MAX_UNROLLED_LAYERS else 1

    def _cast(self, weights: Weights) -> dict[str, jax.Array]:
        """Matrices in the compute dtype; the gains of norms and adapters as stored (they work in f32)."""
        return {
            name: array if name.endswith("norm") or "." in name else array.astype(self.compute_dtype)
            for name, array in weights.items()
        }


def _rope(context: Context, kind: Weights) -> Tables:
    """The layer's own rotary tables f32[B, T, H/2]."""
    index: Any = kind.get("rope", 0)
    return context.cos[index], context.sin[index]


def _in_window(context: Context, kind: Weights) -> jax.Array:
    """bool[B, T, S]: what the layer sees. A window of w is a token itself and the w - 1 before it."""
    if context.distance is None:
        return context.mask
    return jnp.logical_and(context.mask, context.distance < kind["window"])
