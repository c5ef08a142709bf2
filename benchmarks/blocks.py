"""Loss and attention in blocks beside the plain ones: time and compiled memory, forward and backward, float32 on CPU.

In: nothing. Out: a table, or with ``--json`` rows {name, value, unit, bar, peer}; ``peer`` is the
plain form, measured in the same run.

    $ python benchmarks/blocks.py [--json]

loss: 1024 tokens, width 512, 8192 words. attention: one row of 2048 tokens, 8 heads and 1 kv head of 64: causal, with
a window of 256, and packed with eight segments of 256. Memory is XLA's temporary memory. Times are the best of three.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from parts.table import Fact, report

from engine.trainer import device


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device.select("cpu")
    return report([*measure_loss(), *measure_attention()], as_json=options.json)


def compare(name: str, ours: Any, plain: Any, arrays: Any) -> list[Fact]:
    """Seconds and memory of both."""
    (seconds, memory), (plain_seconds, plain_memory) = cost(ours, arrays), cost(plain, arrays)
    return [
        Fact(f"{name}, time", seconds, "s", peer=plain_seconds),
        Fact(f"{name}, memory", memory / 1e6, "MB", peer=plain_memory / 1e6),
    ]


def cost(function: Any, arrays: Any) -> tuple[float, int]:
    """(seconds, bytes) of the gradients of the sum by all arrays."""
    import jax
    import jax.numpy as jnp

    def total(*arrays: Any) -> Any:
        return jnp.sum(function(*arrays))

    compiled = jax.jit(jax.value_and_grad(total, argnums=tuple(range(len(arrays))))).lower(*arrays).compile()
    jax.block_until_ready(compiled(*arrays))
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*arrays))
        best = min(best, time.perf_counter() - started)
    return best, int(compiled.memory_analysis().temp_size_in_bytes)


def normal(*shapes: tuple[int, ...]) -> list[Any]:
    """Random numbers, reproducibly."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [0.1 * jax.random.normal(key, shape, jnp.float32) for key, shape in zip(keys, shapes, strict=True)]


def measure_loss() -> list[Fact]:
    """The head's loss, in blocks of 1024 words and in one."""
    import jax
    import jax.numpy as jnp

    from engine.trainer.ops.cross_entropy import linear_cross_entropy

    states, table = normal((1024, 512), (8192, 512))
    labels = jnp.arange(1024, dtype=jnp.int32)

    def plain(states: Any, table: Any) -> Any:
        log_p = jax.nn.log_softmax(jnp.matmul(states, table.T, preferred_element_type=jnp.float32), axis=-1)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=-1)

    def blocks(rows: int) -> Any:
        return lambda states, table: linear_cross_entropy(states, table, labels, softcap=None, block=rows)

    rows = compare("loss, blocks of 1024", blocks(1024), plain, (states, table))
    return rows + compare("loss, one block", blocks(8192), plain, (states, table))


def measure_attention() -> list[Fact]:
    """Causal, windowed and packed attention."""
    import jax.numpy as jnp

    from engine.trainer.models.layers import attention
    from engine.trainer.ops.blocked_attention import EVERYTHING, TokenPositions, blocked_attention

    length = 2048
    arrays = normal((1, length, 8, 64), (1, length, 1, 64), (1, length, 1, 64))
    index = jnp.arange(length, dtype=jnp.int32)[None]
    one, packed = TokenPositions(index, jnp.ones_like(index)), TokenPositions(index % 256, 1 + index // 256)
    rows = []
    for name, positions, window in (
        ("causal", one, EVERYTHING),
        ("window 256", one, 256),
        ("packed", packed, EVERYTHING),
    ):
        ago = positions.positions[:, :, None] - positions.positions[:, None, :]
        same = positions.segment_ids[:, :, None] == positions.segment_ids[:, None, :]
        mask = same & (ago >= 0) & (ago < window)

        def ours(q: Any, k: Any, v: Any, positions: Any = positions, window: int = window) -> Any:
            return blocked_attention(q, k, v, positions, window=window, block=256)

        def plain(q: Any, k: Any, v: Any, mask: Any = mask) -> Any:
            return attention(q, k, v, mask)

        rows += compare(f"attention, {name}", ours, plain, arrays)
    return rows


if __name__ == "__main__":
    sys.exit(main())
