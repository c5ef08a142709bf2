"""The compiled programs of generation: read pieces of prompts, decode in every slot, copy from slot to slot.

In: a :class:`Network`, arrays. Out: the cache, donated to each call and updated in place; from decoding the new tokens.

    program = compiled("decode", network, arguments)
    cache, tokens, n_new = program(*arguments)

Equal models, limits and sizes in one process share a program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.stages import Compiled
from jax.typing import DTypeLike

from engine.model_config.decoder import DecoderConfig
from engine.trainer.generation.sampling import Sampling, choose
from engine.trainer.models.cached import KeyValueCache
from engine.trainer.models.decoder import Decoder
from engine.trainer.ops.matmul import MatmulRule
from engine.trainer.pytree import PyTree

DECODE_STEPS = 32  # tokens a row generates before the host checks them


class Network(NamedTuple):
    """The constant part of a model, for a program: hashable, so that programs are shared."""

    family: type[Decoder]
    config: DecoderConfig
    compute_dtype: DTypeLike
    matmul: MatmulRule | None
    sampling: Sampling

    def shell(self, weights: PyTree) -> Decoder:
        """The model with only the weights outside its layers; those of the layers are passed to ``extend``."""
        outer = {name: weights[name] for name in ("embed", "norm")}
        model = self.family(self.config, outer, compute_dtype=self.compute_dtype)
        model.matmul = self.matmul
        return model


def compiled(name: str, network: Network, arguments: PyTree) -> Compiled:
    """The program ``name`` ("prefill", "decode" or "copy") for arguments of these shapes."""
    leaves, tree = jax.tree.flatten(arguments)
    return _compiled(name, network, tree, tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves))


@functools.lru_cache(maxsize=64)
def _compiled(
    name: str, network: Network, tree: jax.tree_util.PyTreeDef, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> Compiled:
    functions: dict[str, Callable[..., PyTree]] = {"prefill": _prefill, "decode": _decode, "copy": _copy}
    program = jax.jit(functools.partial(functions[name], network), donate_argnums=0)
    return program.lower(*jax.tree.unflatten(tree, shapes)).compile()


def _prefill(  # noqa: PLR0917 - traced arguments have no names
    network: Network,
    cache: KeyValueCache,
    weights: PyTree,
    tokens: jax.Array,
    slots: jax.Array,
    starts: jax.Array,
    lengths: jax.Array,
) -> KeyValueCache:
    """Write the pieces i32[P, T], ``lengths`` i32[P] tokens of each, to ``slots`` from position ``starts``.

    Only keys and values are computed in the last layer, and no logits: the last token of a prompt is the first that
    decoding reads.
    """
    columns = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :]
    positions = jnp.where(columns < lengths[:, None], starts[:, None] + columns, -1)
    _, cache = network.shell(weights).extend(tokens, positions, cache, rows=slots, weights=weights["layers"])
    return cache


class _State(NamedTuple):
    """The decoding loop's carry."""

    step: jax.Array  # i32[]
    token: jax.Array  # i32[B]: the newest token of each row
    live: jax.Array  # bool[B]
    new: jax.Array  # i32[B]: tokens generated in this call
    out: jax.Array  # i32[B, DECODE_STEPS]
    cache: KeyValueCache


def _decode(  # noqa: PLR0917 - traced arguments have no names
    network: Network,
    cache: KeyValueCache,
    weights: PyTree,
    token: jax.Array,
    position: jax.Array,
    count: jax.Array,
    left: jax.Array,
    live: jax.Array,
    keys: jax.Array,
    ends: jax.Array,
    steps: jax.Array,
) -> tuple[KeyValueCache, jax.Array, jax.Array]:
    """Generate after ``token`` at ``position``: a row of ``count`` tokens up to ``left`` more, all rows up to ``steps``.

    Gives the cache, the tokens i32[B, DECODE_STEPS] and how many of them each row generated i32[B].
    """
    model = network.shell(weights)

    def unfinished(carry: _State) -> jax.Array:
        return jnp.logical_and(carry.step < steps, jnp.any(carry.live))

    def step(carry: _State) -> _State:
        at = jnp.where(carry.live, position + carry.new, -1)[:, None]  # [B, 1]: the newest token's position
        states, cache = model.extend(carry.token[:, None], at, carry.cache, weights=weights["layers"])
        token = choose(model.unembed(states[:, 0, :]), network.sampling, keys, count + carry.new)
        out = jax.lax.dynamic_update_slice(carry.out, token[:, None], (jnp.int32(0), carry.step))
        new = carry.new + carry.live.astype(jnp.int32)
        ended = jnp.logical_or(jnp.any(token[:, None] == ends[None, :], axis=1), new >= left)
        return _State(carry.step + 1, token, jnp.logical_and(carry.live, ~ended), new, out, cache)

    out = jnp.zeros((token.shape[0], DECODE_STEPS), jnp.int32)
    start = _State(jnp.int32(0), token, live, jnp.zeros_like(token), out, cache)
    end = jax.lax.while_loop(unfinished, step, start)
    return end.cache, end.out, end.new


def _copy(_: Network, cache: KeyValueCache, sources: jax.Array, targets: jax.Array, count: jax.Array) -> KeyValueCache:
    """The rows ``sources`` i32[N] of these blocks to the rows ``targets``, the first ``count`` of them."""

    def copy(index: jax.Array, cache: KeyValueCache) -> KeyValueCache:
        source, target = sources[index], targets[index]

        def block(array: jax.Array) -> jax.Array:
            row = jax.lax.dynamic_slice_in_dim(array, source, 1, axis=0)
            copied: jax.Array = jax.lax.dynamic_update_slice_in_dim(array, row, target, axis=0)
            return copied

        written: KeyValueCache = jax.tree.map(block, cache)
        return written

    end: KeyValueCache = jax.lax.fori_loop(0, count, copy, cache)
    return end
