"""Helpers of the model's tests: tiny models, a second implementation in plain numpy, the golden file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.models import config_from_hf, create
from engine.trainer.models.gemma import Gemma, GemmaConfig, weight_shapes

TINY = {
    "model_type": "gemma",
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "initializer_range": 0.35,
}


@pytest.fixture(scope="session")
def tiny_mapping() -> dict[str, Any]:
    """A config.json of a tiny Gemma."""
    return dict(TINY)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Gemma]:
    """make_model(seed=0, compute_dtype=..., **config keys): a tiny Gemma whose norm gains are not 1."""

    def make(seed: int = 0, *, param_dtype: Any = jnp.float32, compute_dtype: Any = jnp.float32, **keys: Any) -> Gemma:
        config = config_from_hf(TINY | keys)
        weights = create(config, seed=seed, param_dtype=param_dtype).weights()
        for index, name in enumerate(name for name in weights if name.endswith("norm")):
            draw = 0.3 * jax.random.normal(jax.random.key(index), weights[name].shape)
            weights[name] = draw.astype(param_dtype)
        return Gemma(config, weights, compute_dtype=compute_dtype)

    return make


@pytest.fixture(scope="session")
def tokens_and_positions() -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(tokens, positions) i32[B, T], drawn from a seed."""

    def draw(batch: int, length: int, seed: int = 0, vocab: int = 260) -> tuple[jax.Array, jax.Array]:
        tokens = jax.random.randint(jax.random.key(seed), (batch, length), 4, vocab, dtype=jnp.int32)
        positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None, :], (batch, length))
        return tokens, positions

    return draw


@pytest.fixture(scope="session", params=["mqa", "gqa"])
def golden(request: pytest.FixtureRequest) -> SimpleNamespace:
    """What transformers' Gemma computed in PyTorch (tests/fixtures/make_gemma_golden.py)."""
    path = Path(__file__).parents[1] / "fixtures" / "gemma_golden.npz"
    with np.load(path) as stored:
        found = {
            name.removeprefix(f"{request.param}/"): stored[name]
            for name in stored.files
            if name.startswith(f"{request.param}/")
        }
    group = lambda prefix: {  # noqa: E731
        name.removeprefix(prefix): array for name, array in found.items() if name.startswith(prefix)
    }
    return SimpleNamespace(
        config=json.loads(str(found["config"])),
        tokens=found["tokens"],
        logits=found["logits"],
        loss=float(found["loss"]),
        weights=group("weight/"),
        grads=group("grad/"),
        prompts=[array.tolist() for _, array in sorted(group("prompt/").items())],
        greedy=[array.tolist() for _, array in sorted(group("greedy/").items())],
    )


# --- A second implementation: numpy, f64, one row, one head, one token at a time where that is plainest. ---


def ref_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * (1 + weight)


def ref_rotate(x: np.ndarray, positions: np.ndarray, theta: float) -> np.ndarray:
    """x [T, H]: pair i is (x[i], x[i + H/2]), turned by position * theta^(-2i/H)."""
    half = x.shape[-1] // 2
    turned = np.empty_like(x)
    for t, position in enumerate(positions):
        for i in range(half):
            angle = position * theta ** (-2 * i / x.shape[-1])
            turned[t, i] = x[t, i] * np.cos(angle) - x[t, i + half] * np.sin(angle)
            turned[t, i + half] = x[t, i + half] * np.cos(angle) + x[t, i] * np.sin(angle)
    return turned


def ref_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """q [T, N, H] scaled, k and v [S, K, H], mask [T, S] -> [T, N, H], head by head."""
    out = np.empty_like(q)
    groups = q.shape[1] // k.shape[1]
    for head in range(q.shape[1]):
        scores = np.where(mask, q[:, head] @ k[:, head // groups].T, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, head] = weights / weights.sum(-1, keepdims=True) @ v[:, head // groups]
    return out


def ref_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def ref_logits(
    config: GemmaConfig, weights: Mapping[str, Any], tokens: np.ndarray, positions: np.ndarray, segments: np.ndarray
) -> np.ndarray:
    """One row: tokens, positions, segments [T] -> logits f64[T, V]."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    length, heads, dim = len(tokens), config.num_attention_heads, config.head_dim
    mask = np.tril(np.ones((length, length), bool)) & (segments[:, None] == segments[None, :])
    x = w["embed"][tokens] * np.sqrt(config.hidden_size)
    for i in range(config.num_hidden_layers):
        h = ref_norm(x, w["layers.attn_norm"][i], config.rms_norm_eps)
        q = (h @ w["layers.q"][i]).reshape(length, heads, dim)
        k, v = ((h @ w[f"layers.{name}"][i]).reshape(length, -1, dim) for name in "kv")
        q, k = (
            np.stack([ref_rotate(part[:, n], positions, config.rope_theta) for n in range(part.shape[1])], 1)
            for part in (q, k)
        )
        x = x + ref_attention(q / np.sqrt(dim), k, v, mask).reshape(length, -1) @ w["layers.o"][i]
        h = ref_norm(x, w["layers.mlp_norm"][i], config.rms_norm_eps)
        x = x + (ref_gelu(h @ w["layers.gate"][i]) * (h @ w["layers.up"][i])) @ w["layers.down"][i]
    return ref_norm(x, w["norm"], config.rms_norm_eps) @ w["embed"].T


@pytest.fixture(scope="session")
def reference() -> SimpleNamespace:
    """The numpy functions: norm, rotate, attention, gelu, logits."""
    return SimpleNamespace(norm=ref_norm, rotate=ref_rotate, attention=ref_attention, gelu=ref_gelu, logits=ref_logits)


@pytest.fixture(scope="session")
def shapes() -> Callable[[GemmaConfig], dict[str, tuple[int, ...]]]:
    """The table of what a configuration stores."""
    return weight_shapes
