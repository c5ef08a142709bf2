"""Gemma 1: what one layer computes, and its weights.

    >>> config = GemmaConfig(vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    ...                      num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    >>> param_count(config)
    26912

The network (Gemma Team 2024, arXiv 2403.08295): tied embedding scaled by sqrt(D); per layer
x += attention(norm(x)), x += geglu(norm(x)); final norm; no biases, no soft caps. The walk through the layers is
:mod:`engine.trainer.models.decoder`'s, and so is the legend of shapes.
"""

from __future__ import annotations

from typing import ClassVar

import jax

from engine.model_config.gemma import GemmaConfig
from engine.trainer.models import layers
from engine.trainer.models.decoder import Carried, Decoder, Mix, Tables, Weights
from engine.trainer.models.table import WeightLeaf, WeightTable

__all__ = ["Gemma", "GemmaConfig", "init_weights", "param_count", "weight_shapes"]

TABLE = WeightTable(
    WeightLeaf("embed", "V D", "model.embed_tokens.weight"),
    WeightLeaf("layers.attn_norm", "L D", "model.layers.{}.input_layernorm.weight"),
    WeightLeaf("layers.q", "L D NH", "model.layers.{}.self_attn.q_proj.weight"),
    WeightLeaf("layers.k", "L D KH", "model.layers.{}.self_attn.k_proj.weight"),
    WeightLeaf("layers.v", "L D KH", "model.layers.{}.self_attn.v_proj.weight"),
    WeightLeaf("layers.o", "L NH D", "model.layers.{}.self_attn.o_proj.weight"),
    # Despite its name this norm comes before the MLP, not after the attention's output.
    WeightLeaf("layers.mlp_norm", "L D", "model.layers.{}.post_attention_layernorm.weight"),
    WeightLeaf("layers.gate", "L D F", "model.layers.{}.mlp.gate_proj.weight"),
    WeightLeaf("layers.up", "L D F", "model.layers.{}.mlp.up_proj.weight"),
    WeightLeaf("layers.down", "L F D", "model.layers.{}.mlp.down_proj.weight"),
    WeightLeaf("norm", "D", "model.norm.weight"),
)


class Gemma(Decoder):
    """Gemma 1."""

    TABLE: ClassVar[WeightTable] = TABLE

    def block(self, x: jax.Array, w: Weights, rope: Tables, mix: Mix[Carried]) -> tuple[jax.Array, Carried]:
        """x [M, D] -> x + attention of its norm, + MLP of the norm of that."""
        eps = self.config.rms_norm_eps
        normed = layers.rms_norm(x, w["attn_norm"], eps)  # [M, D]
        q, k, v = layers.qkv(normed, w, rope, self.config.head_dim)  # [B, T, N, H], 2 x [B, T, K, H]
        q, k = layers.rotate(q, *rope) * self.config.query_scale, layers.rotate(k, *rope)
        mixed, carried = mix(q, k, v)  # [M, N*H]
        x = x + layers.project(mixed, w, "o")  # [M, D]
        normed = layers.rms_norm(x, w["mlp_norm"], eps)
        return x + layers.gated_mlp(normed, w), carried


# What every family offers under the same names (see engine.trainer.models).
CONFIG, MODEL, HF_NAMES = GemmaConfig, Gemma, TABLE.hf_names
weight_shapes, init_weights, param_count = TABLE.weight_shapes, TABLE.init_weights, TABLE.param_count
