"""Attention in a kernel of the platform's own, where it has one for the job: which, why not, and the call.

In: the arguments, the model's configuration, a device, attached or described. Out: a :class:`Choice`.

    choice = attention_of(args, config, device)
    choice.attention, choice.because           # "splash", "a TPU's kernel, above 1024 tokens"

``splash``  TPU v4 and later: ``jax.experimental.pallas.ops.tpu.splash_attention``. Tiles that causality or a window masks are
            never computed; packed sequences, soft caps, grouped heads and any head dimension are supported. Sequences are a
            multiple of 128 long.
``cudnn``   NVIDIA of compute capability 8 and later: ``jax.nn.dot_product_attention``. Operands of 16 bits, no soft cap, a
            head dimension of at most 128 before compute capability 9 and 256 from there on (Gemma has 256).

Neither holds a [T, T] matrix of scores. Legend: B batch, T tokens, N heads, K kv heads, H head dim.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax

from engine.errors import InputInvalid
from engine.model_config.decoder import DecoderConfig
from engine.protocol.train_args import PLAIN_ATTENTION_TOKENS, TrainArgs
from engine.trainer.ops.blocked_attention import Mesh, TokenPositions
from engine.trainer.ops.matmul import dtype_of, matmul_rule
from engine.trainer.ops.splash_attention import splash_attention

Attention = Literal["plain", "blocked", "splash", "cudnn"]
Kernel = Literal["splash", "cudnn"]

LANES = 128  # a TPU's vector registers are 8 x 128: lengths are a multiple of it
OLD_TPUS = ("TPU v2", "TPU v3")  # Pallas has no kernels for them
NEEDS_CAPABILITY, WIDE_CAPABILITY = 8.0, 9.0
NARROW_HEAD, WIDE_HEAD = 128, 256  # cuDNN's largest head dimension below and from WIDE_CAPABILITY on


class Demand(NamedTuple):
    """What decides which kernel can compute a job's attention; ``dtype``: of its operands."""

    seq_len: int
    head_dim: int
    softcap: float | None
    dtype: str


class Choice(NamedTuple):
    """How attention is computed, and why, in a sentence for people."""

    attention: Attention
    because: str

    @property
    def kernel(self) -> Kernel | None:
        """The platform's kernel, where it is one."""
        return self.attention if self.attention in ("splash", "cudnn") else None


def attention_of(args: TrainArgs, config: DecoderConfig, device: jax.Device) -> Choice:
    """How these arguments compute this model's attention on this device. Raises InputInvalid T175."""
    dtype = dtype_of(matmul_rule(args.matmul_dtype, args.dtype, device), args.dtype)
    demand = Demand(args.seq_len, config.head_dim, config.attention_softcap, dtype)
    return choose(args.attention, device, demand)


def choose(declared: str, device: jax.Device, demand: Demand) -> Choice:
    """What ``attention`` means for a job on a device. Raises InputInvalid T175 for ``fused`` where there is no kernel for it."""
    if declared in ("plain", "blocked"):
        return Choice("plain" if declared == "plain" else "blocked", "declared")
    kernel, reason = kernel_for(device, demand)
    if declared == "fused":
        if kernel is None:
            raise InputInvalid(
                "T175",
                f"attention: fused has no kernel for this job: {reason}",
                hint="write attention: auto (or blocked)",
            )
        return Choice(kernel, "declared")
    if demand.seq_len <= PLAIN_ATTENTION_TOKENS:
        return Choice("plain", f"up to {PLAIN_ATTENTION_TOKENS} tokens the scores fit")
    if kernel == "splash":
        return Choice("splash", f"a TPU's kernel, above {PLAIN_ATTENTION_TOKENS} tokens")
    if kernel == "cudnn":
        return Choice("blocked", "cuDNN's kernel is taken only where it is declared (attention: fused)")
    return Choice("blocked", reason)


def kernel_for(device: jax.Device, demand: Demand) -> tuple[Kernel | None, str]:
    """The device's kernel for a job, or None with the reason."""
    if device.platform == "tpu":
        if device.device_kind.startswith(OLD_TPUS):
            return None, f"a {device.device_kind} has no Pallas kernels (TPU v4 and later have)"
        if demand.seq_len % LANES:
            return None, f"splash attention takes sequences of a multiple of {LANES} tokens, not {demand.seq_len}"
        return "splash", ""
    if device.platform in ("gpu", "cuda"):
        reason = _cudnn_lacks(float(getattr(device, "compute_capability", 0.0)), demand)
        return (None, reason) if reason else ("cudnn", "")
    return None, f"a {device.platform} has no fused attention"


def _cudnn_lacks(capability: float, demand: Demand) -> str:
    """What cuDNN does not have of a job, or nothing (jax/_src/cudnn/fused_attention_stablehlo.py, check_is_flash_attention)."""
    most = WIDE_HEAD if capability >= WIDE_CAPABILITY else NARROW_HEAD
    if capability < NEEDS_CAPABILITY:
        return f"cuDNN's attention needs compute capability {NEEDS_CAPABILITY:.0f}, this GPU has {capability}"
    if demand.softcap is not None:
        return "cuDNN's attention has no soft cap of scores, this model has"
    if demand.dtype not in ("bfloat16", "float16"):
        return f"cuDNN's attention takes operands of 16 bits, not {demand.dtype}"
    if demand.head_dim > most:
        return (
            f"cuDNN's attention takes heads of at most {most} on compute capability {capability}, not {demand.head_dim}"
        )
    if demand.seq_len % 2:
        return f"cuDNN's attention takes an even number of tokens, not {demand.seq_len}"
    return ""


class LayerMask(NamedTuple):
    """What a layer's queries attend to, for either kernel: a mask bool[B, T, T] (cuDNN), or positions and windows (splash)."""

    mask: jax.Array | None
    positions: TokenPositions
    window: jax.Array | None
    windows: tuple[int | None, ...] | None


def kernel_attention(
    kernel: Kernel,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    layer: LayerMask,
    *,
    softcap: float | None,
    mesh: Mesh | None,
) -> jax.Array:
    """[B, T, N, H] of q [B, T, N, H] already scaled, k and v [B, T, K, H]."""
    if kernel == "cudnn":
        assert layer.mask is not None  # the decoder makes one for this kernel
        return cudnn_attention(q, k, v, layer.mask)
    windows = layer.windows or (None,)
    return splash_attention(
        q, k, v, layer.positions, window=layer.window, windows=windows, softcap=softcap, mesh=mesh
    )  # fmt: skip


def cudnn_attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """[B, T, N, H] of q [B, T, N, H] already scaled, k and v [B, T, K, H], mask bool[B, T, T] (causal, segments, window)."""
    mixed: jax.Array = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], scale=1.0, implementation="cudnn")
    return mixed
