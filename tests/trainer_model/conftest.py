"""Helpers of the model's tests: tiny models of every family, a second implementation in plain numpy, the golden file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engine.trainer.models import config_from_hf, create, family_of
from engine.trainer.models.decoder import Decoder

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_KINDS = _load(FIXTURES / "kinds.py")
KINDS, TINY, TINY_MORE = _KINDS.KINDS, _KINDS.TINY, _KINDS.TINY_MORE
GOLDEN_FILE = _load(FIXTURES / "golden_file.py")
COMPARE = _load(FIXTURES / "compare.py")
REFERENCE = _load(HERE / "reference.py")


@pytest.fixture(scope="session")
def tiny_mapping() -> dict[str, Any]:
    """A config.json of a tiny Gemma."""
    return dict(TINY)


@pytest.fixture(scope="session")
def kinds() -> dict[str, dict[str, Any]]:
    """tests/fixtures/kinds.py: kind -> config.json."""
    return {kind: dict(mapping) for kind, mapping in KINDS.items()}


@pytest.fixture(scope="session")
def held() -> ModuleType:
    """tests/fixtures/kinds.py itself."""
    return _KINDS


@pytest.fixture(scope="session")
def bf16_bounds() -> dict[str, float]:
    """tests/fixtures/kinds.py: model_type -> how far bf16 may drift."""
    return dict(_KINDS.BF16_BOUNDS)


@pytest.fixture(scope="session")
def golden_kinds() -> set[str]:
    """The kinds that the golden file holds."""
    found: set[str] = GOLDEN_FILE.kinds_in(FIXTURES / "gemma_golden.npz")
    return found


@pytest.fixture(scope="session", params=sorted(TINY_MORE))
def model_type(request: pytest.FixtureRequest) -> str:
    """Each family once."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Decoder]:
    """make_model(seed=0, model_type=..., compute_dtype=..., **config keys): a tiny model whose norm gains are not 1."""

    def make(
        seed: int = 0,
        *,
        model_type: str = "gemma",
        param_dtype: Any = jnp.float32,
        compute_dtype: Any = jnp.float32,
        **keys: Any,
    ) -> Decoder:
        config = config_from_hf(TINY | TINY_MORE[model_type] | {"model_type": model_type} | keys)
        weights = create(config, seed=seed, param_dtype=param_dtype).weights()
        for index, name in enumerate(name for name in weights if name.endswith("norm")):
            draw = 0.3 * jax.random.normal(jax.random.key(index), weights[name].shape)
            weights[name] = draw.astype(param_dtype)
        model: Decoder = family_of(config).MODEL(config, weights, compute_dtype=compute_dtype)
        return model

    return make


@pytest.fixture(scope="session")
def tokens_and_positions() -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(tokens, positions) i32[B, T], drawn from a seed."""

    def draw(batch: int, length: int, seed: int = 0, vocab: int = 260) -> tuple[jax.Array, jax.Array]:
        tokens = jax.random.randint(jax.random.key(seed), (batch, length), 4, vocab, dtype=jnp.int32)
        positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None, :], (batch, length))
        return tokens, positions

    return draw


@pytest.fixture(scope="session", params=sorted(KINDS))
def golden(request: pytest.FixtureRequest) -> SimpleNamespace:
    """What transformers' own model computed in PyTorch for one kind (tests/fixtures/make_gemma_golden.py)."""
    found = GOLDEN_FILE.read(FIXTURES / "gemma_golden.npz", request.param)
    group = lambda prefix: {  # noqa: E731
        name.removeprefix(prefix): array for name, array in found.items() if name.startswith(prefix)
    }
    return SimpleNamespace(
        kind=request.param,
        config=json.loads(found["config"]),
        tokens=found["tokens"],
        logits=found["logits"],
        bf16_logits=found["bf16_logits"],
        loss=float(found["loss"]) if "loss" in found else None,
        weights={name: array.astype(np.float32) / 128 for name, array in group("weight/").items()},
        grads={name: array.astype(np.float32) / 2**18 for name, array in group("grad/").items()},
        modules=group("module/"),
        prompts=[array.tolist() for _, array in sorted(group("prompt/").items())],
        greedy=[array.tolist() for _, array in sorted(group("greedy/").items())],
    )


@pytest.fixture(scope="session")
def golden_model(golden: SimpleNamespace) -> Callable[..., Decoder]:
    """golden_model(dtype=f32): our network with the golden weights, put in place by hand: no loader between."""

    def make(dtype: Any = jnp.float32) -> Decoder:
        config = config_from_hf(golden.config)
        family = family_of(config)
        weights = {}
        for name, (stored, transposed) in family.HF_NAMES.items():
            rows = [golden.weights[stored.format(i)] for i in range(config.num_hidden_layers if "{}" in stored else 1)]
            parts = [jnp.asarray(row.T if transposed else row, dtype) for row in rows]
            weights[name] = jnp.stack(parts) if "{}" in stored else parts[0]
        model: Decoder = family.MODEL(config, weights, compute_dtype=dtype)
        return model

    return make


@pytest.fixture(scope="session")
def compare() -> ModuleType:
    """tests/fixtures/compare.py: our modules against recorded ones."""
    return COMPARE


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The numpy functions: norm, rotate, attention, gelu, logits."""
    return REFERENCE
