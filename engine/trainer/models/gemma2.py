"""Gemma 2: what one layer computes, and its weights.

    >>> TABLE.hf_names["layers.post_attn_norm"]
    ('model.layers.{}.post_attention_layernorm.weight', False)

Compared to Gemma 1 (Gemma Team 2024, arXiv 2408.00118): each branch is normed before and after; every other layer,
beginning with the first, attends within a window; attention scores and logits are soft-capped, c tanh(x / c);
queries are scaled by query_pre_attn_scalar^-0.5, which differs from the head dimension in the 27B.
"""

from __future__ import annotations

from typing import ClassVar

import jax

from engine.model_config.gemma2 import Gemma2Config
from engine.trainer.models import layers
from engine.trainer.models.decoder import Carried, Decoder, Mix, Tables, Weights
from engine.trainer.models.table import WeightLeaf, WeightTable

TABLE = WeightTable(
    WeightLeaf("embed", "V D", "model.embed_tokens.weight"),
    WeightLeaf("layers.attn_norm", "L D", "model.layers.{}.input_layernorm.weight"),
    WeightLeaf("layers.q", "L D NH", "model.layers.{}.self_attn.q_proj.weight"),
    WeightLeaf("layers.k", "L D KH", "model.layers.{}.self_attn.k_proj.weight"),
    WeightLeaf("layers.v", "L D KH", "model.layers.{}.self_attn.v_proj.weight"),
    WeightLeaf("layers.o", "L NH D", "model.layers.{}.self_attn.o_proj.weight"),
    # In Gemma 1 this name means the norm before the MLP; here it is the norm after the attention.
    WeightLeaf("layers.post_attn_norm", "L D", "model.layers.{}.post_attention_layernorm.weight"),
    WeightLeaf("layers.mlp_norm", "L D", "model.layers.{}.pre_feedforward_layernorm.weight"),
    WeightLeaf("layers.gate", "L D F", "model.layers.{}.mlp.gate_proj.weight"),
    WeightLeaf("layers.up", "L D F", "model.layers.{}.mlp.up_proj.weight"),
    WeightLeaf("layers.down", "L F D", "model.layers.{}.mlp.down_proj.weight"),
    WeightLeaf("layers.post_mlp_norm", "L D", "model.layers.{}.post_feedforward_layernorm.weight"),
    WeightLeaf("norm", "D", "model.norm.weight"),
)


class Gemma2(Decoder):
    """Gemma 2."""

    TABLE: ClassVar[WeightTable] = TABLE

    def block(self, x: jax.Array, w: Weights, rope: Tables, mix: Mix[Carried]) -> tuple[jax.Array, Carried]:
        """x [M, D] -> x + normed attention of its norm, + normed MLP of the norm of that."""
        eps = self.config.rms_norm_eps
        normed = layers.rms_norm(x, w["attn_norm"], eps)  # [M, D]
        q, k, v = layers.qkv(normed, w, rope, self.config.head_dim)  # [B, T, N, H], 2 x [B, T, K, H]
        q, k = layers.rotate(q, *rope) * self.config.query_scale, layers.rotate(k, *rope)
        mixed, carried = mix(q, k, v)  # [M, N*H]
        x = x + layers.rms_norm(layers.project(mixed, w, "o"), w["post_attn_norm"], eps)  # [M, D]
        normed = layers.rms_norm(x, w["mlp_norm"], eps)
        return x + layers.rms_norm(layers.gated_mlp(normed, w), w["post_mlp_norm"], eps), carried


# What every family offers under the same names (see engine.trainer.models).
CONFIG, MODEL, HF_NAMES = Gemma2Config, Gemma2, TABLE.hf_names
weight_shapes, init_weights, param_count = TABLE.weight_shapes, TABLE.init_weights, TABLE.param_count
