"""Attention by the TPU's splash kernel, on one device or a mesh, for packed sequences and layers with and without windows.

In: what :func:`engine.trainer.ops.blocked_attention.blocked_attention` takes. Out: the same result, within rounding.

    mixed = splash_attention(q, k, v, TokenPositions(positions, segment_ids), window=kind["window"], windows=(None, 4096))

The kernel is jax.experimental.pallas.ops.tpu.splash_attention. Its tiles come from the mask of a row that is one sequence:
causality and the window skip tiles, segments do not. With ``interpret`` it runs anywhere, slowly, for tests.

Legend: B batch, T tokens, N heads, K kv heads, H head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

from engine.trainer.ops.blocked_attention import EVERYTHING, Mesh, TokenPositions

TILES = (512, 256, 128)  # queries, and keys, a tile: the largest that divides the length


def splash_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    positions: TokenPositions,
    *,
    window: jax.Array | int | None = None,
    windows: Sequence[int | None] = (None,),
    softcap: float | None = None,
    mesh: Mesh | None = None,
    interpret: bool = False,
) -> jax.Array:
    """[B, T, N, H] in q's dtype, of q [B, T, N, H] already scaled, k and v [B, T, K, H].

    ``windows``: those that layers have; ``window``, which may be traced, says which of them this layer has. Positions
    must rise by one within a segment: distances are those in the row. On a ``mesh`` each device has its own rows and heads.
    """
    kinds = tuple(sorted({EVERYTHING if size is None else size for size in windows}))
    reach = jnp.asarray(EVERYTHING if window is None else window, jnp.int32)
    call = partial(_local, kinds=kinds, softcap=softcap, interpret=interpret)
    if mesh is None:
        return call(q, k, v, positions.segment_ids, reach)
    heads, kv_heads = mesh.shape["tp"], k.shape[2]
    by_head = q.shape[2] % heads == 0 and (kv_heads % heads == 0 or kv_heads == 1)
    query = jax.P("fsdp", None, "tp" if by_head else None, None)
    key = jax.P("fsdp", None, "tp" if by_head and kv_heads % heads == 0 else None, None)
    specs = (query, key, key, jax.P("fsdp"), jax.P())
    sharded = jax.shard_map(call, mesh=mesh, in_specs=specs, out_specs=query, check_vma=False)
    mixed: jax.Array = sharded(q, k, v, positions.segment_ids, reach)
    return mixed


def _local(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segment_ids: jax.Array,
    reach: jax.Array,
    *,
    kinds: tuple[int, ...],
    softcap: float | None,
    interpret: bool,
) -> jax.Array:
    """One device's rows: one kernel for each window, of which the layer's own runs."""
    turned = tuple(part.transpose(0, 2, 1, 3) for part in (q, k, v))  # [B, N, T, H]
    kernels = [_kernel(q.shape[2], q.shape[1], kind, softcap, interpret) for kind in kinds]

    def attend(kernel: splash.SplashAttentionKernel, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        ids = splash.SegmentIds(segment_ids, segment_ids)
        mixed = jax.vmap(kernel)(q, k, v, ids)
        assert isinstance(mixed, jax.Array)  # a tuple only where residuals are wanted
        return mixed

    which = jnp.searchsorted(jnp.asarray(kinds, jnp.int32), reach)
    branches = [partial(attend, kernel) for kernel in kernels]
    mixed = branches[0](*turned) if len(branches) == 1 else jax.lax.switch(which, branches, *turned)
    return mixed.transpose(0, 2, 1, 3).astype(q.dtype)


@lru_cache(maxsize=64)
def _kernel(
    heads: int, length: int, window: int, softcap: float | None, interpret: bool
) -> splash.SplashAttentionKernel:
    """The kernel for one shape and window; its tables of tiles are made once, on the host."""
    tile = next(size for size in TILES if length % size == 0)
    shape = (length, length)
    mask = masks.CausalMask(shape) if window >= length else masks.LocalMask(shape, (window - 1, 0), 0)
    sizes = splash.BlockSizes(
        block_q=tile, block_kv=tile, block_kv_compute=tile, block_q_dkv=tile, block_kv_dkv=tile,
        block_kv_dkv_compute=tile, block_q_dq=tile, block_kv_dq=tile,
    )  # fmt: skip
    with jax.ensure_compile_time_eval():
        kernel: splash.SplashAttentionKernel = splash.make_splash_mha(
            masks.MultiHeadMask([mask] * heads), block_sizes=sizes, head_shards=1, q_seq_shards=1,
            attn_logits_soft_cap=softcap, interpret=interpret,
        )  # fmt: skip
    return kernel
