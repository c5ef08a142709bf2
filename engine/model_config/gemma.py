"""Gemma 1: the keys of its config.json.

>>> GemmaConfig.from_hf({"hidden_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 8,
...                      "num_key_value_heads": 1, "intermediate_size": 16384}).vocab_size
256000
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from engine.model_config.decoder import GELU_TANH, DecoderConfig


@dataclass(frozen=True, slots=True)
class GemmaConfig(DecoderConfig):
    """Sizes and constants of one Gemma 1, by Hugging Face's names."""

    NAME: ClassVar[str] = "Gemma 1"
    MODEL_TYPE: ClassVar[str] = "gemma"
    ARCHITECTURE: ClassVar[str] = "GemmaForCausalLM"
    FIXED: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "attention_bias": (False,),
        "attention_dropout": (0, 0.0, None),
        "hidden_act": GELU_TANH,
        "hidden_activation": (None, *GELU_TANH),
        "tie_word_embeddings": (True,),
        "use_bidirectional_attention": (None, False),
    }
    DEFAULT_SIZES: ClassVar[Mapping[str, int]] = {
        "vocab_size": 256_000,
        "hidden_size": 3072,
        "intermediate_size": 24_576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
    }

    def rope_to_hf(self) -> dict[str, object]:
        """The plain rope, and the one activation key that both versions of transformers read."""
        return {
            "hidden_act": "gelu_pytorch_tanh",
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
        }
