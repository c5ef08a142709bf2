"""A family's weights as one table: our name, the shape in words, the name in Hugging Face's files.

In: rows. Out: shapes for a configuration, the number of parameters, fresh weights, and the
names by which :mod:`engine.trainer.weights` reads and writes them.

    >>> table = WeightTable(WeightLeaf("embed", "V D", "model.embed_tokens.weight"), WeightLeaf("norm", "D", "model.norm.weight"))
    >>> table.hf_names
    {'embed': ('model.embed_tokens.weight', False), 'norm': ('model.norm.weight', False)}

Words: V vocabulary, D model, F ffn, L layers, H head dim, NH all query heads, KH all key (or value) heads. The
weights of all layers are stacked along a leading L in memory only; files have one tensor per layer, and matrices of
layers as [out, in].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from engine.model_config.decoder import DecoderConfig


class WeightLeaf(NamedTuple):
    """``name`` dotted, as in the module; ``stored`` has {} for the layer's number."""

    name: str
    shape: str
    stored: str


class WeightTable:
    """The rows of a family, in the order of its module. Immutable."""

    def __init__(self, *leaves: WeightLeaf) -> None:
        self.leaves = leaves
        # Our name -> (name in the files, whether it is stored [out, in] there).
        self.hf_names = {leaf.name: (leaf.stored, leaf.shape.count(" ") == 2) for leaf in leaves}

    def weight_shapes(self, config: DecoderConfig) -> dict[str, tuple[int, ...]]:
        """Every parameter by its dotted name -> shape."""
        sizes = {
            "V": config.vocab_size,
            "D": config.hidden_size,
            "F": config.intermediate_size,
            "L": config.num_hidden_layers,
            "H": config.head_dim,
            "NH": config.num_attention_heads * config.head_dim,
            "KH": config.num_key_value_heads * config.head_dim,
        }
        return {leaf.name: tuple(sizes[word] for word in leaf.shape.split()) for leaf in self.leaves}

    def param_count(self, config: DecoderConfig) -> int:
        """Number of parameters, the tied head counted once."""
        return sum(math.prod(shape) for shape in self.weight_shapes(config).values())

    def init_weights(self, config: DecoderConfig, *, seed: int, param_dtype: DTypeLike) -> dict[str, jax.Array]:
        """Fresh weights as Hugging Face draws them: normal with std initializer_range, norms 0 (= gain 1).

        Each leaf has its own key, folded from its index in the table, so that adding a leaf at the end
        does not change the draws of the others.
        """
        key = jax.random.key(seed)
        weights = {}
        for index, (name, shape) in enumerate(self.weight_shapes(config).items()):
            if name.endswith("norm"):
                weights[name] = jnp.zeros(shape, param_dtype)
                continue
            draw = jax.random.normal(jax.random.fold_in(key, index), shape, jnp.float32)
            weights[name] = (draw * config.initializer_range).astype(param_dtype)
        return weights
