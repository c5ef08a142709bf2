"""Model families by Hugging Face ``model_type``: a literal dict, one line each.

In: a typed configuration (:mod:`engine.model_config`), a seed. Out: a module, a parameter count.
A family is a Python module with CONFIG (like ``GemmaConfig``), MODEL, ``weight_shapes``, ``init_weights`` and the table
of the names in its files (``HF_NAMES``); docs/how-to/extend has the playbook.

    >>> config = config_from_hf({"model_type": "gemma", "vocab_size": 260, "hidden_size": 32,
    ...     "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    ...     "num_key_value_heads": 1, "head_dim": 16})
    >>> param_count(config)
    26912
"""

from __future__ import annotations

from types import ModuleType

import jax.numpy as jnp
from jax.typing import DTypeLike

from engine.model_config import config_from_hf
from engine.model_config.decoder import DecoderConfig
from engine.trainer.models import gemma, gemma2, gemma3
from engine.trainer.models.decoder import Decoder

__all__ = ["FAMILIES", "config_from_hf", "create", "family_of", "param_count"]

FAMILIES: dict[str, ModuleType] = {
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "gemma3": gemma3,  # the text part of the 4B
}


def family_of(config: DecoderConfig) -> ModuleType:
    """The Python module of the configuration's family."""
    return next(family for family in FAMILIES.values() if isinstance(config, family.CONFIG))


def create(
    config: DecoderConfig, *, seed: int, param_dtype: DTypeLike = jnp.float32, compute_dtype: DTypeLike = jnp.float32
) -> Decoder:
    """A fresh model; equal seeds give equal weights on every machine."""
    family = family_of(config)
    weights = family.init_weights(config, seed=seed, param_dtype=param_dtype)
    model: Decoder = family.MODEL(config, weights, compute_dtype=compute_dtype)
    return model


def param_count(config: DecoderConfig) -> int:
    """Number of parameters, by arithmetic: no weights are made."""
    count: int = family_of(config).param_count(config)
    return count
