"""Gemma 3, the text part (270M, 1B, and of 4B): what one layer computes, its weights, the keys of its config.json.

    >>> config = Gemma3Config(vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=7,
    ...                       num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=512)
    >>> config.layer_windows()
    (512, 512, 512, 512, 512, None, 512)
    >>> config.ropes()
    (Rope(theta=10000.0, factor=1.0), Rope(theta=1000000.0, factor=1.0))

Compared to Gemma 2 (Gemma Team 2025, arXiv 2503.19786): no soft caps; queries and keys are normed per head before
they are rotated; five layers with a window, then one without; layers with a window have their own rotary base, and
positions of the others are divided by a factor where the context was extended (8 in the 4B).

The 4B's config.json ("model_type": "gemma3") nests this part under "text_config" and leaves out the defaults.
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
    MOST_LAYERS,
    SLIDING,
    ConfigMapping,
    DecoderConfig,
    Finding,
    Rope,
    agreed_number,
    layer_type_findings,
    only_default_rope,
    rope_mapping,
    windows_by_type,
)
from engine.trainer.models.decoder import Carried, Decoder, Mix, Tables, Weights
from engine.trainer.models.table import WeightLeaf, WeightTable

WINDOWED_IN_A_ROW = 5
# The values of keys that "text_config" leaves out (transformers' Gemma3TextConfig).
NESTED_DEFAULTS: Mapping[str, int] = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
}
# Keys of the mapping around "text_config" that override the text part's: 1 and 106 end its answers, whatever
# transformers 5 writes as the text part's default.
OUTER_KEYS = ("dtype", "torch_dtype", "eos_token_id", "tie_word_embeddings")
# Weights of the 4B's files: the text part's names begin with one of these, the rest is not read.
KEY_PREFIXES: Mapping[str, str] = {"language_model.model.": "model.", "model.language_model.": "model."}
IGNORED_PREFIXES = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


@dataclass(frozen=True, slots=True)
class Gemma3Config(DecoderConfig):
    """Sizes and constants of one Gemma 3's text part, by Hugging Face's names."""

    max_position_embeddings: int = 131_072
    rope_theta: float = 1_000_000.0  # of the layers without a window
    rope_local_base_freq: float = 10_000.0  # of those with one
    rope_factor: float = 1.0  # positions of layers without a window are divided by it
    query_pre_attn_scalar: int = 256
    sliding_window: int = 4096
    layer_types: tuple[str, ...] = ()  # left out: five sliding, one full, …

    NAME: ClassVar[str] = "Gemma 3"
    MODEL_TYPE: ClassVar[str] = "gemma3_text"
    ARCHITECTURE: ClassVar[str] = "Gemma3ForCausalLM"
    FIXED: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "attention_bias": (False,),
        "attention_dropout": (0, 0.0),
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
        "hidden_activation": GELU_TANH[1:],
        "tie_word_embeddings": (True,),
        "use_bidirectional_attention": (None, False),
    }
    ALSO_READ: ClassVar[frozenset[str]] = frozenset(
        {"rope_scaling", "sliding_window_pattern", "_sliding_window_pattern"}
    )

    def __post_init__(self) -> None:
        if not self.layer_types:
            object.__setattr__(self, "layer_types", _pattern(WINDOWED_IN_A_ROW + 1, self.num_hidden_layers))

    @classmethod
    def normalised(cls, mapping: ConfigMapping) -> tuple[ConfigMapping, list[Finding]]:
        """The text part, without the keys that repeat another key."""
        findings: list[Finding] = []
        if isinstance(mapping.get("text_config"), Mapping):
            outer = {key: mapping[key] for key in OUTER_KEYS if key in mapping}
            mapping = {**NESTED_DEFAULTS, **mapping["text_config"], **outer}
            kind = mapping.get("model_type", cls.MODEL_TYPE)
            if kind != cls.MODEL_TYPE:
                message = f'"text_config.model_type": {kind!r} is not what Gemma 3 computes ({cls.MODEL_TYPE!r})'
                findings.append(("text_config.model_type", "M105", message, None))
        config = dict(mapping)
        pattern = config.pop("sliding_window_pattern", config.pop("_sliding_window_pattern", None))
        config.pop("_sliding_window_pattern", None)
        if config.get("layer_types") is None:
            config.pop("layer_types", None)
            depth = config.get("num_hidden_layers")
            if isinstance(pattern, int) and pattern > 0 and isinstance(depth, int):
                config["layer_types"] = list(_pattern(pattern, min(depth, MOST_LAYERS)))
        return config, findings

    @classmethod
    def rope_fields(cls) -> tuple[str, ...]:
        """Both bases and the factor."""
        return ("rope_theta", "rope_local_base_freq", "rope_factor")

    @classmethod
    def read_rope(cls, mapping: ConfigMapping) -> tuple[dict[str, float], list[Finding]]:
        """transformers 4: rope_theta, rope_local_base_freq, rope_scaling; 5: rope_parameters by layer type."""
        both, findings = rope_mapping(mapping, "rope_parameters")
        sliding, more = rope_mapping(both, SLIDING)
        findings += more + only_default_rope(sliding, f"rope_parameters.{SLIDING}", cls.NAME)
        full, more = rope_mapping(both, FULL)
        scaling, of_scaling = rope_mapping(mapping, "rope_scaling")
        findings += more + of_scaling
        sources_by_name: dict[str, dict[str, ConfigMapping]] = {
            "rope_theta": {"rope_theta": mapping, f"rope_parameters.{FULL}.rope_theta": full},
            "rope_local_base_freq": {"rope_local_base_freq": mapping, f"rope_parameters.{SLIDING}.rope_theta": sliding},
            "rope_factor": {
                "rope_factor": mapping,
                "rope_scaling.factor": scaling,
                f"rope_parameters.{FULL}.factor": full,
            },
        }
        values: dict[str, float] = {}
        for name, sources in sources_by_name.items():
            number, more = agreed_number(sources, name)
            findings += more
            if number is not None:
                values[name] = number
        findings += _only_linear(full, f"rope_parameters.{FULL}") + _only_linear(scaling, "rope_scaling")
        return values, findings

    def rope_to_hf(self) -> dict[str, object]:
        """transformers 5 reads rope_parameters, transformers 4 the bases beside them."""
        full: dict[str, object] = {"rope_theta": self.rope_theta, "rope_type": "default"}
        if self.rope_factor != 1.0:
            full |= {"factor": self.rope_factor, "rope_type": "linear"}
        return {
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": list(self.layer_types),
            "rope_parameters": {
                FULL: full,
                SLIDING: {"rope_theta": self.rope_local_base_freq, "rope_type": "default"},
            },
        }

    def contradictions(self) -> list[Finding]:
        """Those of every decoder, and of the layers' types."""
        types = layer_type_findings(self.layer_types, self.num_hidden_layers)
        return DecoderConfig.contradictions(self) + types

    @property
    def query_scale(self) -> float:
        """The factor of queries."""
        return float(self.query_pre_attn_scalar**-0.5)

    def ropes(self) -> tuple[Rope, ...]:
        """Of the layers with a window, then of those without."""
        return (Rope(self.rope_local_base_freq), Rope(self.rope_theta, self.rope_factor))

    def layer_ropes(self) -> tuple[int, ...] | None:
        """See :class:`DecoderConfig`."""
        return tuple(int(kind == FULL) for kind in self.layer_types)

    def layer_windows(self) -> tuple[int | None, ...] | None:
        """See :class:`DecoderConfig`."""
        return windows_by_type(self.layer_types, self.sliding_window)


def _pattern(every: int, depth: int) -> tuple[str, ...]:
    return tuple(SLIDING if (index + 1) % every else FULL for index in range(depth))


def _only_linear(parameters: ConfigMapping, path: str) -> list[Finding]:
    """Every key that asks to scale positions otherwise than by a division."""
    kinds = {"rope_type": ("default", "linear"), "type": ("default", "linear"), "partial_rotary_factor": (1.0,)}
    rope_type = parameters.get("rope_type", parameters.get("type", "default"))
    if rope_type == "default" and parameters.get("factor", 1.0) != 1.0:  # transformers would not divide by it
        message = f'"{path}.factor": {parameters["factor"]!r} is used with "rope_type": "linear" only'
        return [(f"{path}.factor", "M105", message, None)]
    return [
        (f"{path}.{key}", "M105", f'"{path}.{key}": {value!r} is not what Gemma 3 computes', None)
        for key, value in parameters.items()
        if key not in ("rope_theta", "factor") and value not in kinds.get(key, ())
    ]


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
