"""The weights of each layer as generation reads them: arrays of their own, matrices in the layout that multiplies fastest.

In: the stacked weights [L, ...] of all layers. Out: a mapping of names to arrays for each layer; queries, keys and values
are joined in one matrix "q+k+v", gate and up in "gate+up", which a layer multiplies by at once.

    layers = layer_weights(model.stacked(), depth=18, rule=None, dtype="float32")
    layers[0]["q+k+v"].shape       # [D, N*H + 2*K*H]

Layouts: float32 as [in, out], which two cores of an AMD EPYC (Genoa) multiply by a fifth to two fifths faster than [out, in] with 2
to 32 rows, and not more slowly with 1 or 100 (``python benchmarks/matmul.py --tokens 25``: "512 x 2048: x w" beside
"2048 x 512: dy w^T"); bfloat16 on such processors, and int8, as [out, in].
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from engine.model_config.decoder import DecoderConfig
from engine.trainer.models.layers import PROJECTIONS, Matrices
from engine.trainer.ops.matmul import MatmulRule
from engine.trainer.ops.quantized import Int8Matrix, quantize

JOINED = (("q", "k", "v"), ("gate", "up"))
INT8 = "int8"

Weights = Mapping[str, jax.Array]


def layer_weights(
    stacked: Weights, depth: int, rule: MatmulRule | None, dtype: str
) -> tuple[dict[str, jax.Array], ...]:
    """Each layer's own arrays. ``dtype`` is that of the matrices: a float dtype or "int8"; gains stay as they are."""
    return tuple(_layer_of(stacked, jnp.int32(index), _turned(rule, dtype), dtype) for index in range(depth))


def matrices(weights: Mapping[str, Any], rule: MatmulRule | None, config: DecoderConfig) -> Matrices:
    """One of :func:`layer_weights` as a layer's functions take it."""
    found = Matrices(weights)
    queries, keys = (heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads))
    found.widths = dict(zip("qkv", (queries, keys, keys), strict=True))
    found.widths |= dict.fromkeys(("gate", "up"), config.intermediate_size)
    found.matmul, found.turned = rule, _turned(rule, INT8 if isinstance(weights["o"], Int8Matrix) else "")
    return found


def in_dtype(weights: Weights, dtype: DTypeLike) -> dict[str, jax.Array]:
    """Matrices in the dtype; gains of norms and adapters as they are."""
    return {
        name: array if name.endswith("norm") or "." in name else array.astype(dtype) for name, array in weights.items()
    }


def _turned(rule: MatmulRule | None, dtype: str) -> bool:
    """Whether matrices are [out, in]."""
    return dtype == INT8 or (rule is not None and rule.row_major)


@partial(jax.jit, static_argnums=(2, 3))
def _layer_of(stacked: Weights, index: jax.Array, turned: bool, dtype: str) -> dict[str, jax.Array]:
    """The weights of one layer, each [...] of [L, ...]."""
    own = {name: array[index] for name, array in stacked.items()}
    if not any("." in name for name in own):  # an adapter is beside its own matrix
        for names in JOINED:
            own["+".join(names)] = jnp.concatenate([own.pop(name) for name in names], axis=1)

    def held(name: str, array: jax.Array) -> Any:
        if name.split("+", maxsplit=1)[0] not in PROJECTIONS:
            return array
        matrix = array.T if turned else array
        return quantize(matrix) if dtype == INT8 else matrix.astype(dtype)

    return {name: held(name, array) for name, array in own.items()}
