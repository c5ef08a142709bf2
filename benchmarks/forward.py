"""Speed of the model alone: forward, and forward with backward, on this machine.

What goes in: sizes on the command line. What comes out: one line a measurement, milliseconds and tokens/s.

    python benchmarks/forward.py --batch 16 --length 128 --width 128 --layers 4
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from engine.trainer.models import config_from_hf, create, param_count
from engine.trainer.models.gemma import Gemma


def build(options: argparse.Namespace) -> Gemma:
    """A Gemma of the asked size with fresh weights."""
    mapping = {
        "model_type": "gemma",
        "vocab_size": options.vocab,
        "hidden_size": options.width,
        "intermediate_size": options.ffn,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads,
        "head_dim": options.head_dim,
    }
    return create(config_from_hf(mapping), seed=0)


def best_seconds(function: Callable[..., Any], *args: Any, repeats: int) -> float:
    """The fastest of some calls, after one that compiles."""
    jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"batch": 16, "length": 128, "width": 128, "ffn": 512, "layers": 4, "heads": 4}
    defaults |= {"kv_heads": 1, "head_dim": 32, "vocab": 260, "repeats": 20}
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    options = parser.parse_args()
    model = build(options)
    graph, state = nnx.split(model)
    shape = (options.batch, options.length)
    tokens = jax.random.randint(jax.random.key(1), shape, 4, options.vocab, dtype=jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(options.length, dtype=jnp.int32)[None, :], shape)
    segments = jnp.ones(shape, jnp.int32)

    def forward(state: Any) -> jax.Array:
        return nnx.merge(graph, state)(tokens, positions=positions, segment_ids=segments)

    def loss(state: Any) -> jax.Array:
        logits = forward(state)
        label = jnp.take_along_axis(logits, tokens[:, :, None], axis=2)[:, :, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - label)

    print(f"{param_count(model.config):,} parameters on {jax.devices()[0].device_kind}")
    for name, function in (("forward", jax.jit(forward)), ("forward + backward", jax.jit(jax.grad(loss)))):
        seconds = best_seconds(function, state, repeats=options.repeats)
        print(f"{name:20} {seconds * 1000:8.1f} ms {options.batch * options.length / seconds:10,.0f} tokens/s")


if __name__ == "__main__":
    main()
