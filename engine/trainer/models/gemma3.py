"""Gemma 3, the text part (270M, 1B, and of 4B): what one layer computes, and its weights.

    >>> TABLE.hf_names["layers.q_norm"]
    ('model.layers.{}.self_attn.q_norm.weight', False)

Compared to Gemma 2 (Gemma Team 2025, arXiv 2503.19786): no soft caps; queries and keys are normed per head before
they are rotated; five layers with a window, then one without; layers with a window have their own rotary base, and
positions of the others are divided by a factor where the context was extended (8 in the 4B).

The files of the 4B and larger hold this part beside an image part, and transformers' class for them nests it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax

from engine.model_config.gemma3 import Gemma3Config
from engine.trainer.models import layers
from engine.trainer.models.decoder import Carried, Decoder, Mix, Tables, Weights
from engine.trainer.models.table import WeightLeaf, WeightTable

# Weights of the 4B's files: the text part's names begin with one of these, the rest is not read.
KEY_PREFIXES: Mapping[str, str] = {"language_model.model.": "model.", "model.language_model.": "model."}
# Where transformers' class of the larger model has the modules that it has for the text part alone.
NESTED_PREFIX = ("model.", "model.language_model.")
IGNORED_PREFIXES = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


TABLE = WeightTable(
    WeightLeaf("embed", "V D", "model.embed_tokens.weight"),
    WeightLeaf("layers.attn_norm", "L D", "model.layers.{}.input_layernorm.weight"),
    WeightLeaf("layers.q", "L D NH", "model.layers.{}.self_attn.q_proj.weight"),
    WeightLeaf("layers.k", "L D KH", "model.layers.{}.self_attn.k_proj.weight"),
    WeightLeaf("layers.v", "L D KH", "model.layers.{}.self_attn.v_proj.weight"),
    WeightLeaf("layers.o", "L NH D", "model.layers.{}.self_attn.o_proj.weight"),
    WeightLeaf("layers.q_norm", "L H", "model.layers.{}.self_attn.q_norm.weight"),
    WeightLeaf("layers.k_norm", "L H", "model.layers.{}.self_attn.k_norm.weight"),
    WeightLeaf("layers.post_attn_norm", "L D", "model.layers.{}.post_attention_layernorm.weight"),
    WeightLeaf("layers.mlp_norm", "L D", "model.layers.{}.pre_feedforward_layernorm.weight"),
    WeightLeaf("layers.gate", "L D F", "model.layers.{}.mlp.gate_proj.weight"),
    WeightLeaf("layers.up", "L D F", "model.layers.{}.mlp.up_proj.weight"),
    WeightLeaf("layers.down", "L F D", "model.layers.{}.mlp.down_proj.weight"),
    WeightLeaf("layers.post_mlp_norm", "L D", "model.layers.{}.post_feedforward_layernorm.weight"),
    WeightLeaf("norm", "D", "model.norm.weight"),
)


class Gemma3(Decoder):
    """Gemma 3's text part."""

    TABLE: ClassVar[WeightTable] = TABLE

    def block(self, x: jax.Array, w: Weights, rope: Tables, mix: Mix[Carried]) -> tuple[jax.Array, Carried]:
        """x [M, D] -> x + normed attention of its norm, + normed MLP of the norm of that."""
        eps = self.config.rms_norm_eps
        normed = layers.rms_norm(x, w["attn_norm"], eps)  # [M, D]
        q, k, v = layers.qkv(normed, w, rope, self.config.head_dim)  # [B, T, N, H], 2 x [B, T, K, H]
        q, k = layers.rms_norm(q, w["q_norm"], eps), layers.rms_norm(k, w["k_norm"], eps)
        q, k = layers.rotate(q, *rope) * self.config.query_scale, layers.rotate(k, *rope)
        mixed, carried = mix(q, k, v)  # [M, N*H]
        x = x + layers.rms_norm(layers.project(mixed, w, "o"), w["post_attn_norm"], eps)  # [M, D]
        normed = layers.rms_norm(x, w["mlp_norm"], eps)
        return x + layers.rms_norm(layers.gated_mlp(normed, w), w["post_mlp_norm"], eps), carried


# What every family offers under the same names (see engine.trainer.models).
CONFIG, MODEL, HF_NAMES = Gemma3Config, Gemma3, TABLE.hf_names
weight_shapes, init_weights, param_count = TABLE.weight_shapes, TABLE.init_weights, TABLE.param_count
