"""Low-rank adapters: small float32 matrices beside a frozen base; only they are trained.

In: a model and :class:`LoraArgs`. Out: the model with adapters attached, which
``nnx.split(model, LoraParam, ...)`` splits into the trained and the frozen part; or the model with its adapters merged
into its weights.

    model = attach(model, LoraArgs(rank=16, alpha=32.0), seed=0)
    graphdef, adapters, base = nnx.split(model, LoraParam, ...)
    plain = merged(model)

A projection y = x W becomes y = x W + scale (x A) B with A [in, r] and B [r, out] (Hu et al. 2021, arXiv
2106.09685); scale is alpha / r, or alpha / sqrt(r) with ``rslora`` (Kalajdzievski 2023, arXiv 2312.03732). A is
drawn as PEFT draws it, uniform in ±1/sqrt(in), and B is 0, so that step 0 equals the base exactly. Adapters and
their arithmetic are float32 over any base. As everywhere, those of all layers are stacked: A [L, in, r].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from engine.errors import InputInvalid, Where, did_you_mean
from engine.model_config.decoder import DecoderConfig
from engine.trainer.models import family_of
from engine.trainer.models.decoder import Decoder

# Hugging Face's names of the projections -> ours. PEFT names targets by the former.
TARGETS: Mapping[str, str] = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "o",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
}


@dataclass(frozen=True, slots=True)
class LoraArgs:
    """How adapters are made; ``targets`` by Hugging Face's names."""

    rank: int
    alpha: float
    rslora: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = tuple(TARGETS)

    def __post_init__(self) -> None:
        unknown = [name for name in self.targets if name not in TARGETS]
        if unknown or not self.targets:
            name = unknown[0] if unknown else "(none)"
            near = did_you_mean(name, TARGETS)
            raise InputInvalid(
                "M601",
                f"no projection is called {name!r}",
                where=Where(file="the job", path="lora.targets"),
                hint=f'did you mean "{near}"?' if near else f"there are: {', '.join(TARGETS)}",
            )

    @property
    def scale(self) -> float:
        """The factor of (x A) B."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LoraParam(nnx.Param[jax.Array]):
    """An adapter's weight."""


class Lora(nnx.Module):
    """The adapters of all layers: for each target t, t_a [L, in, r] and t_b [L, r, out]."""

    def __init__(self, args: LoraArgs, weights: Mapping[str, jax.Array]) -> None:
        """``weights``: "q.a" and "q.b" and so on for each target."""
        self.args = args
        for name, array in weights.items():
            setattr(self, name.replace(".", "_"), LoraParam(array))

    def weights(self) -> dict[str, jax.Array]:
        """ "q.a" -> [L, in, r], "q.b" -> [L, r, out], in the order of TARGETS."""
        return {
            f"{target}.{part}": getattr(self, f"{target}_{part}")[...]
            for hf_name, target in TARGETS.items()
            if hf_name in self.args.targets
            for part in ("a", "b")
        }

    def stacked(self, depth: int, dropout_key: jax.Array | None) -> dict[str, jax.Array]:
        """What :func:`engine.trainer.models.layers.project` reads beside a layer's weights, each [L, ...]."""
        stacks = self.weights() | {"lora.scale": jnp.full(depth, self.args.scale, jnp.float32)}
        if dropout_key is not None and self.args.dropout:
            stacks["lora.keep"] = jnp.full(depth, 1.0 - self.args.dropout, jnp.float32)
            stacks["lora.key"] = jax.random.split(dropout_key, depth)
        return stacks


def adapter_shapes(config: DecoderConfig, args: LoraArgs) -> dict[str, tuple[int, ...]]:
    """ "q.a" -> (L, in, r) and so on for each target."""
    weight_shapes = family_of(config).weight_shapes(config)
    shapes: dict[str, tuple[int, ...]] = {}
    for hf_name, target in TARGETS.items():
        if hf_name in args.targets:
            depth, rows, columns = weight_shapes[f"layers.{target}"]
            shapes |= {f"{target}.a": (depth, rows, args.rank), f"{target}.b": (depth, args.rank, columns)}
    return shapes


def attach(model: Decoder, args: LoraArgs, *, seed: int) -> Decoder:
    """A model with the same (shared) weights and fresh adapters; equal seeds give equal adapters."""
    key = jax.random.key(seed)
    weights = {}
    for name, shape in adapter_shapes(model.config, args).items():
        if name.endswith(".b"):
            weights[name] = jnp.zeros(shape, jnp.float32)
            continue
        # By the target's index in TARGETS, so that adding or removing a target does not change the others' draws.
        index = list(TARGETS.values()).index(name.removesuffix(".a"))
        bound = 1.0 / math.sqrt(shape[1])
        weights[name] = jax.random.uniform(jax.random.fold_in(key, index), shape, jnp.float32, -bound, bound)
    return with_adapters(model, args, weights)


def with_adapters(model: Decoder, args: LoraArgs, weights: Mapping[str, jax.Array]) -> Decoder:
    """A model with the same (shared) weights and these adapters."""
    adapted = type(model)(model.config, model.weights(), compute_dtype=model.compute_dtype, lora=Lora(args, weights))
    adapted.matmul = model.matmul
    return adapted


def merged(model: Decoder) -> Decoder:
    """The model without adapters, with W + scale A B as its weights: added in float32, stored in the base's dtype."""
    lora = model.lora
    if not isinstance(lora, Lora):
        return model
    weights, adapters = model.weights(), lora.weights()
    for name in lora.args.targets:
        target = TARGETS[name]
        base = weights[f"layers.{target}"]
        weights[f"layers.{target}"] = _merge(base, adapters[f"{target}.a"], adapters[f"{target}.b"], lora.args.scale)
    return type(model)(model.config, weights, compute_dtype=model.compute_dtype)


@jax.jit
def _merge(base: jax.Array, a: jax.Array, b: jax.Array, scale: float) -> jax.Array:
    """[L, in, out] + scale [L, in, r] [L, r, out], a layer at a time: no float32 copy of the entire stack."""

    def merge_layer(layer: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        matrix, low, high = layer
        return (matrix.astype(jnp.float32) + scale * (low @ high)).astype(matrix.dtype)

    stack: jax.Array = jax.lax.map(merge_layer, (base, a, b))
    return stack
