"""How many floating-point operations a train step needs, and what share of the devices' peak that is (MFU).

In: a configuration, the lengths of the rows, what is trained, how fast. Out: numbers.

    per_token = flops_per_token(config, visible_keys(lengths, config))
    mfu(per_token, tokens_per_second=9800.0, devices=8, peak_flops=197e12)

**MFU**, model FLOPs utilization (Chowdhery et al. 2022, PaLM, arXiv 2204.02311, section 4.1 and appendix B):

    MFU = tokens/s x FLOPs per token / (devices x peak FLOP/s of a device in the format of the matmuls)

Tokens are real ones: padding is no work. FLOPs are those that training needs, whatever the program does: recomputation
(remat) does not count, so that it lowers MFU. A matmul of [m, k] and [k, n] is 2 m k n operations. Per token, with c
keys seen on average (see :func:`visible_keys`):

    matrices    2 (D N H + 2 D K H + N H D + 3 D F) a layer, and 2 D V for the head
    attention   4 N H c a layer: the scores, and the weighted sum of the values

Forward once. Backward twice the same for a trained matrix (gradients of its input and of itself), once for a frozen
one (of its input only), twice for attention (both operands are activations). Adapters of rank r beside a [m, n] matrix
add 2 r (m + n), trained. Norms, rotary embeddings, softmax, the optimizer and the embedding lookup are left out, as in
the paper: together they are below one percent of Gemma 2B at 512 tokens. The paper counts every pair of tokens for
attention (12 L H Q T); here a token sees only those before it, in its own row, within its layer's window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.model_config.decoder import DecoderConfig
from engine.trainer.lora.adapters import LoraArgs, adapter_shapes

FORWARD, TRAINED, FROZEN = 1, 2, 1  # passes of a matmul: forward, and backward of a trained or a frozen matrix


def visible_keys(lengths: ArrayLike, config: DecoderConfig) -> tuple[float, ...]:
    """For each layer how many keys a token sees, itself included, on average over all tokens of these rows.

    Token p of a row sees min(p + 1, window) of them.

    >>> from engine.trainer.models import config_from_hf
    >>> config = config_from_hf({"model_type": "gemma2", "vocab_size": 260, "hidden_size": 32,
    ...     "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    ...     "head_dim": 16, "sliding_window": 2})
    >>> visible_keys([3], config)  # 1 + 2 + 2 keys of three tokens with the window, 1 + 2 + 3 without
    (1.6666666666666667, 2.0)
    """
    row_lengths = np.asarray(lengths, np.float64)
    windows = config.layer_windows() or (None,) * config.num_hidden_layers
    means = {window: _mean_keys(row_lengths, window) for window in set(windows)}
    return tuple(means[window] for window in windows)


def _mean_keys(lengths: NDArray[np.float64], window: int | None) -> float:
    inside = lengths if window is None else np.minimum(lengths, window)
    pairs = inside * (inside + 1) / 2 + (lengths - inside) * inside
    return float(pairs.sum() / lengths.sum())


def flops_per_token(config: DecoderConfig, keys: tuple[float, ...], lora: LoraArgs | None = None) -> float:
    """Forward and backward of one real token (see the module); ``lora``: only adapters are trained.

    >>> from engine.trainer.models import config_from_hf
    >>> gemma_2b = config_from_hf({"model_type": "gemma", "vocab_size": 256_000, "hidden_size": 2048,
    ...     "intermediate_size": 16_384, "num_hidden_layers": 18, "num_attention_heads": 8,
    ...     "num_key_value_heads": 1, "head_dim": 256})
    >>> f"{flops_per_token(gemma_2b, (0.0,) * 18):.4e}", f"{flops_per_token(gemma_2b, (256.5,) * 18):.4e}"
    ('1.5037e+10', '1.5150e+10')
    """
    width, heads = config.hidden_size, config.num_attention_heads * config.head_dim
    kv_heads = config.num_key_value_heads * config.head_dim
    a_layer = 2 * (2 * width * heads + 2 * width * kv_heads + 3 * width * config.intermediate_size)
    matrices = config.num_hidden_layers * a_layer + 2 * width * config.vocab_size
    attention = sum(4 * heads * visible for visible in keys)
    total = matrices * (FORWARD + (TRAINED if lora is None else FROZEN)) + attention * (FORWARD + TRAINED)
    return float(total + adapter_flops(config, lora) * (FORWARD + TRAINED))


def adapter_flops(config: DecoderConfig, lora: LoraArgs | None) -> int:
    """The matmuls with all adapters, forward, of one token: 2 r (m + n) each."""
    if lora is None:
        return 0
    return 2 * sum(int(np.prod(shape)) for shape in adapter_shapes(config, lora).values())


def mfu(per_token: float, *, tokens_per_second: float, devices: int, peak_flops: float) -> float:
    """The share of the devices' peak that these tokens need.

    >>> round(mfu(15.15e9, tokens_per_second=13_000, devices=2, peak_flops=197e12), 5)
    0.49987
    """
    return per_token * tokens_per_second / (devices * peak_flops)
