"""Gemma 1: configuration and network, one readable file.

What goes in: token ids, positions, segment ids. What comes out: logits, or hidden states for the
positions whose logits count, or hidden states and a filled key-value cache.

    >>> config = GemmaConfig(vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    ...                      num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    >>> param_count(config)
    26912

Legend of shapes: B batch, T query, S key, D model, N heads, K kv heads, H head dim, F ffn, V vocab,
L layers, M = B*T. The weights of all layers are stacked on a leading axis [L, ...] in memory only; files
hold one tensor per layer (see :mod:`engine.trainer.weights`).

The network (Gemma Team 2024, arXiv 2403.08295): tied embedding scaled by sqrt(D); per layer
x += attention(norm(x)), x += geglu(norm(x)); final norm; no biases, no soft caps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from engine.trainer.models import layers
from engine.trainer.models.gemma_config import GemmaConfig

__all__ = ["Cache", "Gemma", "GemmaConfig", "init_weights", "param_count", "weight_shapes"]

# Up to here the layers are written out one after the other: 12 % more tokens/s on CPU than a loop
# (34.6 M parameters, 8 layers: 721 against 644). Deeper models would pay in compile time and memory.
MAX_UNROLLED_LAYERS = 8


class Cache(NamedTuple):
    """Keys and values of the tokens seen: k and v [L, B, S, K, H]; slot s of a row holds its position s."""

    k: jax.Array
    v: jax.Array


def weight_shapes(config: GemmaConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter by its dotted name in the module -> shape. The one table of what Gemma stores."""
    depth, width, ffn = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    return {
        "embed": (config.vocab_size, width),
        "layers.attn_norm": (depth, width),
        "layers.q": (depth, width, queries),
        "layers.k": (depth, width, keys),
        "layers.v": (depth, width, keys),
        "layers.o": (depth, queries, width),
        "layers.mlp_norm": (depth, width),
        "layers.gate": (depth, width, ffn),
        "layers.up": (depth, width, ffn),
        "layers.down": (depth, ffn, width),
        "norm": (width,),
    }


def param_count(config: GemmaConfig) -> int:
    """Number of parameters, the tied head counted once."""
    return sum(math.prod(shape) for shape in weight_shapes(config).values())


def init_weights(config: GemmaConfig, *, seed: int, param_dtype: Any) -> dict[str, jax.Array]:
    """Fresh weights as Hugging Face draws them: normal with std initializer_range, norms 0 (= gain 1).

    Each leaf has its own key, folded from its place in the table, so that adding a leaf at the end
    does not change the draws of the others.
    """
    key = jax.random.key(seed)
    weights = {}
    for index, (name, shape) in enumerate(weight_shapes(config).items()):
        if name.endswith("norm"):
            weights[name] = jnp.zeros(shape, param_dtype)
            continue
        draw = jax.random.normal(jax.random.fold_in(key, index), shape, jnp.float32)
        weights[name] = (draw * config.initializer_range).astype(param_dtype)
    return weights


# Our name -> (name in Hugging Face's files, is it stored [out, in] there?). {} is the layer's number.
HF_NAMES: dict[str, tuple[str, bool]] = {
    "embed": ("model.embed_tokens.weight", False),
    "layers.attn_norm": ("model.layers.{}.input_layernorm.weight", False),
    "layers.q": ("model.layers.{}.self_attn.q_proj.weight", True),
    "layers.k": ("model.layers.{}.self_attn.k_proj.weight", True),
    "layers.v": ("model.layers.{}.self_attn.v_proj.weight", True),
    "layers.o": ("model.layers.{}.self_attn.o_proj.weight", True),
    # Despite its name it comes before the MLP, not after the attention's output.
    "layers.mlp_norm": ("model.layers.{}.post_attention_layernorm.weight", False),
    "layers.gate": ("model.layers.{}.mlp.gate_proj.weight", True),
    "layers.up": ("model.layers.{}.mlp.up_proj.weight", True),
    "layers.down": ("model.layers.{}.mlp.down_proj.weight", True),
    "norm": ("model.norm.weight", False),
}


class Layers(nnx.Module):
    """The weights of all layers, stacked: attn_norm, mlp_norm [L, D]; q, k, v, o, gate, up, down [L, in, out]."""

    def __init__(self, weights: Mapping[str, jax.Array]) -> None:
        self.attn_norm = nnx.Param(weights["layers.attn_norm"])
        self.q = nnx.Param(weights["layers.q"])
        self.k = nnx.Param(weights["layers.k"])
        self.v = nnx.Param(weights["layers.v"])
        self.o = nnx.Param(weights["layers.o"])
        self.mlp_norm = nnx.Param(weights["layers.mlp_norm"])
        self.gate = nnx.Param(weights["layers.gate"])
        self.up = nnx.Param(weights["layers.up"])
        self.down = nnx.Param(weights["layers.down"])

    def stacked(self, dtype: Any) -> dict[str, jax.Array]:
        """Name -> [L, ...]: matrices in the compute dtype, norm weights as stored (they work in f32)."""
        matrices = ("q", "k", "v", "o", "gate", "up", "down")
        found = {name: getattr(self, name)[...].astype(dtype) for name in matrices}
        return found | {"attn_norm": self.attn_norm[...], "mlp_norm": self.mlp_norm[...]}


class Gemma(nnx.Module):
    """Gemma 1. ``compute_dtype`` is the dtype of activations and matmuls; weights keep their own."""

    def __init__(
        self, config: GemmaConfig, weights: Mapping[str, jax.Array], *, compute_dtype: Any = jnp.float32
    ) -> None:
        self.config = config
        self.compute_dtype = jnp.dtype(compute_dtype)
        self.embed = nnx.Param(weights["embed"])
        self.layers = Layers(weights)
        self.norm = nnx.Param(weights["norm"])

    def weights(self) -> dict[str, jax.Array]:
        """Dotted name -> array, in the order of :func:`weight_shapes`."""
        found = {}
        for name in weight_shapes(self.config):
            owner = self.layers if name.startswith("layers.") else self
            found[name] = getattr(owner, name.removeprefix("layers."))[...]
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
    ) -> jax.Array:
        """tokens, positions, segment_ids i32[B, T] -> final normed states [B, T, D].

        Segment 0 is padding. Tokens see earlier tokens of their own segment only, so that rows packed
        into one sequence do not see each other. ``remat`` recomputes each layer in the backward pass.
        """
        batch, length = tokens.shape
        mask = layers.causal_mask(segment_ids, batch, length)  # [B, T, T]
        tables = layers.rope_tables(positions, self.config.head_dim, self.config.rope_theta)

        def layer(x: jax.Array, weights: dict[str, jax.Array]) -> tuple[jax.Array, None]:
            q, k, v = self._qkv(x, weights, tables)
            x = self._attend(x, weights, q, k, v, mask)
            return self._feed_forward(x, weights), None

        body: Callable[..., Any] = jax.checkpoint(layer) if remat else layer
        x, _ = jax.lax.scan(body, self._embed(tokens), self._stacked(), unroll=self._unroll())
        return layers.rms_norm(x, self.norm[...], self.config.rms_norm_eps).reshape(batch, length, -1)

    def unembed(self, states: jax.Array) -> jax.Array:
        """states [..., D] -> logits f32[..., V]; the head is the embedding (tied)."""
        table = self.embed[...].astype(self.compute_dtype)  # [V, D]
        flat = states.reshape(-1, states.shape[-1])  # [M, D]
        logits = jnp.einsum("md,vd->mv", flat, table, preferred_element_type=jnp.float32)
        return logits.reshape(*states.shape[:-1], -1)  # [..., V]

    def init_cache(self, batch: int, length: int, dtype: Any | None = None) -> Cache:
        """An empty cache for ``length`` positions per row, in the compute dtype unless told."""
        shape = (
            self.config.num_hidden_layers,
            batch,
            length,
            self.config.num_key_value_heads,
            self.config.head_dim,
        )
        zeros = jnp.zeros(shape, dtype or self.compute_dtype)
        return Cache(zeros, zeros)

    def extend(self, tokens: jax.Array, positions: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Append tokens i32[B, T] at positions i32[B, T] of each row -> (states [B, T, D], cache).

        Serves the prompt (T > 1) and decoding (T = 1). Key and value of position p go to slot p, and a
        query at p sees slots 0..p. So rows of different length need no left padding: the padding to the
        right of a short prompt lies in slots that nothing sees before a real token overwrites them.
        A position outside the cache is not written.
        """
        batch, length = tokens.shape
        tables = layers.rope_tables(positions, self.config.head_dim, self.config.rope_theta)
        slots = jnp.arange(cache.k.shape[2], dtype=jnp.int32)  # [S]
        mask = slots[None, None, :] <= positions[:, :, None]  # [B, T, S]
        rows = jnp.arange(batch, dtype=jnp.int32)[:, None]  # [B, 1]

        def layer(carry: Any, item: Any) -> tuple[Any, None]:
            x, keys, values = carry
            index, weights = item
            q, k, v = self._qkv(x, weights, tables)
            # The whole cache is carried and written in place: as a scanned output it would be copied.
            keys = keys.at[index, rows, positions].set(k.astype(keys.dtype), mode="drop")
            values = values.at[index, rows, positions].set(v.astype(values.dtype), mode="drop")
            seen_k, seen_v = keys[index].astype(q.dtype), values[index].astype(q.dtype)  # [B, S, K, H]
            x = self._attend(x, weights, q, seen_k, seen_v, mask)
            return (self._feed_forward(x, weights), keys, values), None

        numbers = jnp.arange(self.config.num_hidden_layers, dtype=jnp.int32)
        start = (self._embed(tokens), cache.k, cache.v)
        (x, keys, values), _ = jax.lax.scan(layer, start, (numbers, self._stacked()), unroll=self._unroll())
        states = layers.rms_norm(x, self.norm[...], self.config.rms_norm_eps)
        return states.reshape(batch, length, -1), Cache(keys, values)

    def _unroll(self) -> int:
        depth = self.config.num_hidden_layers
        return depth if depth <= MAX_UNROLLED_LAYERS else 1

    def _stacked(self) -> dict[str, jax.Array]:
        return self.layers.stacked(self.compute_dtype)

    def _embed(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, T] -> [M, D], scaled by sqrt(D) rounded to the compute dtype as Hugging Face does."""
        table = self.embed[...].astype(self.compute_dtype)  # [V, D]
        normaliser = jnp.asarray(math.sqrt(self.config.hidden_size), self.compute_dtype)
        return table[tokens.reshape(-1)] * normaliser  # [M, D]

    def _qkv(
        self, x: jax.Array, weights: dict[str, jax.Array], tables: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x [M, D] -> q [B, T, N, H] rotated and scaled by H^-0.5, k rotated and v [B, T, K, H]."""
        head_dim = self.config.head_dim
        batch, length = tables[0].shape[:2]
        normed = layers.rms_norm(x, weights["attn_norm"], self.config.rms_norm_eps)  # [M, D]
        q = (normed @ weights["q"]).reshape(batch, length, -1, head_dim)  # [B, T, N, H]
        k = (normed @ weights["k"]).reshape(batch, length, -1, head_dim)  # [B, T, K, H]
        v = (normed @ weights["v"]).reshape(batch, length, -1, head_dim)  # [B, T, K, H]
        return layers.rotate(q, *tables) * head_dim**-0.5, layers.rotate(k, *tables), v

    def _attend(
        self,
        x: jax.Array,
        weights: dict[str, jax.Array],
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        mask: jax.Array,
    ) -> jax.Array:
        """x [M, D] plus the attention of q over k and v, projected back."""
        mixed = layers.attention(q, k, v, mask)  # [B, T, N, H]
        return x + mixed.reshape(x.shape[0], -1) @ weights["o"]  # [M, N*H] @ [N*H, D]

    def _feed_forward(self, x: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
        """x [M, D] plus the gated MLP of it."""
        normed = layers.rms_norm(x, weights["mlp_norm"], self.config.rms_norm_eps)
        return x + layers.gated_mlp(normed, weights["gate"], weights["up"], weights["down"])


# What every family offers under the same names (see engine.trainer.models).
CONFIG = GemmaConfig
MODEL = Gemma
