"""Gemma 2: what one layer computes, its weights, the keys of its config.json.

    >>> config = Gemma2Config(vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
    ...                       num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    >>> config.layer_windows()
    (4096, None, 4096, None)

Compared to Gemma 1 (Gemma Team 2024, arXiv 2408.00118): each branch is normed before and after; every other layer,
beginning with the first, attends within a window; attention scores and logits are soft-capped, c tanh(x / c);
queries are scaled by query_pre_attn_scalar^-0.5, which differs from the head dimension in the 27B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax

from engine.trainer.models import layers
from engine.trainer.models.config import (
    FULL,
    GELU_TANH,
    SLIDING,
    ConfigMapping,
    DecoderConfig,
    Finding,
    layer_type_findings,
    windows_by_type,
)
from engine.trainer.models.decoder import Carried, Decoder, Mix, Tables, Weights
from engine.trainer.models.table import WeightLeaf, WeightTable


@dataclass(frozen=True, slots=True)
class Gemma2Config(DecoderConfig):
    """Sizes and constants of one Gemma 2, by Hugging Face's names."""

    query_pre_attn_scalar: int = 256
    sliding_window: int = 4096
    layer_types: tuple[str, ...] = ()  # left out: sliding, full, sliding, …
    attn_logit_softcapping: float | None = 50.0
    final_logit_softcapping: float | None = 30.0

    NAME: ClassVar[str] = "Gemma 2"
    MODEL_TYPE: ClassVar[str] = "gemma2"
    ARCHITECTURE: ClassVar[str] = "Gemma2ForCausalLM"
    FIXED: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "attention_bias": (False,),
        "attention_dropout": (0, 0.0),
        "hidden_act": GELU_TANH,
        "hidden_activation": (None, *GELU_TANH),
        "rope_scaling": (None,),
        "tie_word_embeddings": (True,),
        "use_bidirectional_attention": (None, False),
    }
    # The published 9B names its window twice.
    ALSO_READ: ClassVar[frozenset[str]] = frozenset({"sliding_window_size"})

    def __post_init__(self) -> None:
        if not self.layer_types:
            pattern = tuple(FULL if index % 2 else SLIDING for index in range(self.num_hidden_layers))
            object.__setattr__(self, "layer_types", pattern)

    @classmethod
    def normalised(cls, mapping: ConfigMapping) -> tuple[ConfigMapping, list[Finding]]:
        """The mapping with its window under one name, and without a pattern that is null."""
        config, size = dict(mapping), mapping.get("sliding_window_size")
        window = config.setdefault("sliding_window", size) if size is not None else None
        if config.get("layer_types", ()) is None:
            del config["layer_types"]
        if window == size:
            return config, []
        message = f'two windows: "sliding_window" is {window!r} and "sliding_window_size" is {size!r}'
        return config, [("sliding_window", "M105", message, None)]

    def rope_to_hf(self) -> dict[str, object]:
        """The plain rope, the activation, and the layers' types as a list."""
        return {
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": list(self.layer_types),
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
        }

    def contradictions(self) -> list[Finding]:
        """Those of every decoder, and of the layers' types."""
        types = layer_type_findings(self.layer_types, self.num_hidden_layers)
        return DecoderConfig.contradictions(self) + types

    @property
    def query_scale(self) -> float:
        """The factor of queries."""
        return float(self.query_pre_attn_scalar**-0.5)

    def layer_windows(self) -> tuple[int | None, ...] | None:
        """See :class:`DecoderConfig`."""
        return windows_by_type(self.layer_types, self.sliding_window)

    @property
    def attention_softcap(self) -> float | None:
        """50 in all published models."""
        return self.attn_logit_softcapping

    @property
    def final_softcap(self) -> float | None:
        """30 in all published models."""
        return self.final_logit_softcapping


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
