"""Gemma 3, the text part: the keys of its config.json.

    >>> config = Gemma3Config(vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=7,
    ...                       num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=512)
    >>> config.layer_windows()
    (512, 512, 512, 512, 512, None, 512)
    >>> config.ropes()
    (Rope(theta=10000.0, factor=1.0), Rope(theta=1000000.0, factor=1.0))

The 4B's config.json ("model_type": "gemma3") nests this part under "text_config" and leaves out the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engine.model_config.decoder import GELU_TANH, MOST_LAYERS, DecoderConfig, Rope
from engine.model_config.keys import BOOKKEEPING, QUANTISED, Finding, wrong_with
from engine.model_config.values import (
    FULL,
    SLIDING,
    ConfigMapping,
    agreed_number,
    layer_type_findings,
    rope_findings,
    rope_mapping,
    width_findings,
    windows_by_type,
)

WINDOWED_IN_A_ROW = 5
NESTED_TYPE = "gemma3"  # the model_type around a "text_config"
# Keys of the mapping around "text_config" that override the text part's: 1 and 106 end its answers, whatever
# transformers 5 writes as the text part's default.
OUTER_KEYS = ("dtype", "torch_dtype", "eos_token_id", "tie_word_embeddings")
# What else it holds: the image part.
OF_IMAGES = frozenset(
    [
        "boi_token_id",
        "boi_token_index",
        "eoi_token_id",
        "eoi_token_index",
        "image_token_id",
        "image_token_index",
        "initializer_range",
        "mm_tokens_per_image",
        "text_config",
        "vision_config",
    ]
)


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
        "attention_dropout": (0, 0.0, None),
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
        "hidden_act": (None, *GELU_TANH),  # of older files; transformers reads the next one
        "hidden_activation": GELU_TANH[1:],
        "tie_word_embeddings": (True,),
        "use_bidirectional_attention": (None, False),
    }
    ALSO_READ: ClassVar[frozenset[str]] = frozenset({"sliding_window_pattern", "_sliding_window_pattern"})
    DEFAULT_SIZES: ClassVar[Mapping[str, int]] = {
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
    }

    def __post_init__(self) -> None:
        if not self.layer_types:
            object.__setattr__(self, "layer_types", _pattern(WINDOWED_IN_A_ROW + 1, self.num_hidden_layers))

    @classmethod
    def nests(cls, mapping: ConfigMapping) -> bool:
        """The 4B and larger."""
        return mapping.get("model_type") == NESTED_TYPE

    @classmethod
    def normalised(cls, mapping: ConfigMapping) -> tuple[ConfigMapping, list[Finding], list[str]]:
        """The text part, without the keys that repeat another key."""
        findings: list[Finding] = []
        read_past: list[str] = []
        if cls.nests(mapping):
            mapping, findings, read_past = _text_part(mapping)
        config = dict(mapping)
        pattern = config.pop("sliding_window_pattern", config.pop("_sliding_window_pattern", None))
        config.pop("_sliding_window_pattern", None)
        if config.get("layer_types") is None:
            config.pop("layer_types", None)
            depth = config.get("num_hidden_layers", cls.DEFAULT_SIZES["num_hidden_layers"])
            if isinstance(pattern, int) and pattern > 0 and isinstance(depth, int):
                config["layer_types"] = list(_pattern(pattern, min(depth, MOST_LAYERS)))
        return config, findings, read_past

    @classmethod
    def rope_fields(cls) -> tuple[str, ...]:
        """Both bases and the factor."""
        return ("rope_theta", "rope_local_base_freq", "rope_factor")

    @classmethod
    def read_rope(cls, mapping: ConfigMapping) -> tuple[dict[str, float], list[Finding]]:
        """transformers 4: rope_theta, rope_local_base_freq, rope_scaling; 5: rope_parameters by layer type."""
        both, findings = rope_mapping(mapping, "rope_parameters")
        findings += [
            (
                f"rope_parameters.{key}",
                "M105",
                f'"rope_parameters.{key}": those of {cls.NAME} are by type of layer',
                None,
            )
            for key, value in both.items()
            if key not in (FULL, SLIDING) and value is not None and (key, value) != ("rope_type", "default")
        ]
        sliding, more = rope_mapping(both, SLIDING)
        findings += more + rope_findings(sliding, f"rope_parameters.{SLIDING}", cls.NAME)
        full, more = rope_mapping(both, FULL)
        scaling, of_scaling = rope_mapping(mapping, "rope_scaling")
        findings += more + of_scaling
        sources_by_name: dict[str, dict[str, ConfigMapping]] = {
            "rope_theta": {
                "rope_theta": mapping,
                f"rope_parameters.{FULL}.rope_theta": full,
                "rope_scaling.rope_theta": scaling,
            },
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
        findings += rope_findings(full, f"rope_parameters.{FULL}", cls.NAME, may_divide=True)
        findings += rope_findings(scaling, "rope_scaling", cls.NAME, may_divide=True)
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
        """Those of every decoder, of the layers' types, and of the heads."""
        more = layer_type_findings(self.layer_types, self.num_hidden_layers)
        more += width_findings(self.hidden_size, self.num_attention_heads)
        return DecoderConfig.contradictions(self) + more

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


def _text_part(mapping: ConfigMapping) -> tuple[ConfigMapping, list[Finding], list[str]]:
    """What is under "text_config", with the keys around it that override it; then as ``normalised``."""
    text = mapping.get("text_config")
    if not isinstance(text, Mapping):
        hint = f'the text part alone has "model_type": "{Gemma3Config.MODEL_TYPE}"'
        problem = (
            ("M103", 'key "text_config" is missing') if text is None else ("M104", '"text_config": must be a mapping')
        )
        return {"model_type": Gemma3Config.MODEL_TYPE}, [("text_config", *problem, hint)], []
    findings: list[Finding] = []
    kind = text.get("model_type", Gemma3Config.MODEL_TYPE)
    if kind != Gemma3Config.MODEL_TYPE:
        message = f'"text_config.model_type": {kind!r} is not what Gemma 3 computes ({Gemma3Config.MODEL_TYPE!r})'
        findings.append(("text_config.model_type", "M105", message, None))
    outside = [key for key in mapping if key not in OF_IMAGES and key not in OUTER_KEYS and key not in BOOKKEEPING]
    for key in filter(QUANTISED.__contains__, outside):
        finding = wrong_with(key, mapping[key], (), NESTED_TYPE, Gemma3Config.NAME)
        findings += [finding] if finding else []
    outer = {key: mapping[key] for key in OUTER_KEYS if mapping.get(key) is not None}
    return {**text, **outer}, findings, [key for key in outside if key not in QUANTISED]
