"""Gemma 2: the keys of its config.json.

>>> config = Gemma2Config(vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
...                       num_attention_heads=2, num_key_value_heads=1, head_dim=16)
>>> config.layer_windows()
(4096, None, 4096, None)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engine.model_config.decoder import GELU_TANH, DecoderConfig
from engine.model_config.keys import Finding
from engine.model_config.values import (
    FULL,
    SLIDING,
    ConfigMapping,
    layer_type_findings,
    width_findings,
    windows_by_type,
)


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
        "attention_dropout": (0, 0.0, None),
        "hidden_act": GELU_TANH,
        "hidden_activation": (None, *GELU_TANH[1:]),
        "tie_word_embeddings": (True,),
        "use_bidirectional_attention": (None, False),
    }
    DEFAULT_SIZES: ClassVar[Mapping[str, int]] = {
        "vocab_size": 256_000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
    }
    # The published 9B names its window twice.
    ALSO_READ: ClassVar[frozenset[str]] = frozenset({"sliding_window_size"})

    def __post_init__(self) -> None:
        if not self.layer_types:
            pattern = tuple(FULL if index % 2 else SLIDING for index in range(self.num_hidden_layers))
            object.__setattr__(self, "layer_types", pattern)

    @classmethod
    def normalised(cls, mapping: ConfigMapping) -> tuple[ConfigMapping, list[Finding], list[str]]:
        """The mapping with its window under one name."""
        config, size = dict(mapping), mapping.get("sliding_window_size")
        window = config.setdefault("sliding_window", size) if size is not None else None
        if window == size:
            return config, [], []
        message = f'two windows: "sliding_window" is {window!r} and "sliding_window_size" is {size!r}'
        return config, [("sliding_window", "M105", message, None)], []

    def rope_to_hf(self) -> dict[str, object]:
        """The plain rope, the activation, and the layers' types as a list."""
        return {
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": list(self.layer_types),
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
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
