"""A second implementation of all families: numpy, f64, one row, one head at a time, written from the papers.

What goes in: a configuration and weights by our names. What comes out: logits. It shares no line with the engine, so
that packing, which transformers knows otherwise, has something to be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * (1 + weight)


def rotate(x: np.ndarray, positions: np.ndarray, theta: float, factor: float = 1.0) -> np.ndarray:
    """x [T, H]: pair i is (x[i], x[i + H/2]), turned by position / factor * theta^(-2i/H)."""
    half = x.shape[-1] // 2
    turned = np.empty_like(x)
    for t, position in enumerate(positions):
        for i in range(half):
            angle = position / factor * theta ** (-2 * i / x.shape[-1])
            turned[t, i] = x[t, i] * np.cos(angle) - x[t, i + half] * np.sin(angle)
            turned[t, i + half] = x[t, i + half] * np.cos(angle) + x[t, i] * np.sin(angle)
    return turned


def cap(x: np.ndarray, limit: float | None) -> np.ndarray:
    return x if limit is None else limit * np.tanh(x / limit)


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray, softcap: float | None = None
) -> np.ndarray:
    """q [T, N, H] scaled, k and v [S, K, H], mask [T, S] -> [T, N, H], head by head."""
    out = np.empty_like(q)
    groups = q.shape[1] // k.shape[1]
    for head in range(q.shape[1]):
        scores = np.where(mask, cap(q[:, head] @ k[:, head // groups].T, softcap), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, head] = weights / weights.sum(-1, keepdims=True) @ v[:, head // groups]
    return out


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def logits(
    config: Any, weights: Mapping[str, Any], tokens: np.ndarray, positions: np.ndarray, segments: np.ndarray
) -> np.ndarray:
    """One row: tokens, positions, segments [T] -> logits f64[T, V]."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    eps, length = config.rms_norm_eps, len(tokens)
    causal = np.tril(np.ones((length, length), bool)) & (segments[:, None] == segments[None, :])
    ago = positions[:, None] - positions[None, :]
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    scale = getattr(config, "query_pre_attn_scalar", config.head_dim) ** -0.5
    x = w["embed"][tokens] * np.sqrt(config.hidden_size)
    for i, kind in enumerate(kinds):
        layer = {name.removeprefix("layers."): array[i] for name, array in w.items() if name.startswith("layers.")}

        def maybe(y: np.ndarray, name: str, layer: Mapping[str, np.ndarray] = layer) -> np.ndarray:
            return norm(y, layer[name], eps) if name in layer else y

        sliding = kind == "sliding_attention"
        mask = causal & (ago < config.sliding_window) if sliding else causal
        if hasattr(config, "rope_local_base_freq"):
            rope = (config.rope_local_base_freq, 1.0) if sliding else (config.rope_theta, config.rope_factor)
        else:
            rope = (config.rope_theta, 1.0)
        h = norm(x, layer["attn_norm"], eps)
        q, k, v = ((h @ layer[name]).reshape(length, -1, config.head_dim) for name in "qkv")
        q, k = maybe(q, "q_norm"), maybe(k, "k_norm")
        q, k = (np.stack([rotate(p[:, n], positions, *rope) for n in range(p.shape[1])], 1) for p in (q, k))
        mixed = attention(q * scale, k, v, mask, getattr(config, "attn_logit_softcapping", None))
        x = x + maybe(mixed.reshape(length, -1) @ layer["o"], "post_attn_norm")
        h = norm(x, layer["mlp_norm"], eps)
        x = x + maybe((gelu(h @ layer["gate"]) * (h @ layer["up"])) @ layer["down"], "post_mlp_norm")
    return cap(norm(x, w["norm"], eps) @ w["embed"].T, getattr(config, "final_logit_softcapping", None))
