"""The matmuls of a train step on this CPU: float32, bfloat16 as the compiler takes it, and bfloat16 as the engine asks for it.

In: nothing. Out: a table of Gflop/s, or with ``--json`` rows {name, value, unit, bar, peer}; exit code 1 if a bar is missed.

    $ python benchmarks/matmul.py [--tokens 2048] [--json]

For each weight [in, out] of the benchmarks' model: ``x w`` of the forward pass, ``dy w^T`` and ``x^T dy`` of the backward pass, x [tokens, in],
dy [tokens, out]. The peer is the plain matmul of bfloat16 operands with float32 sums, whose gradients JAX derives; ours is
:func:`engine.trainer.ops.matmul.contract`. Best of 15. Bars count on a processor that multiplies bfloat16: each at least twice float32.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
from parts.table import Fact, report

from engine.protocol.processor import multiplies_bfloat16
from engine.trainer.ops.matmul import MatmulRule, contract

SHAPES = (
    (512, 512),
    (512, 128),
    (512, 2048),
    (2048, 512),
    (512, 8192),
)  # q and o, k and v, gate and up, down, the head
OVER = {"x w": (-1, -2), "dy w^T": (-1, -1), "x^T dy": (-2, -2)}
ROWS = MatmulRule("bfloat16", row_major=True)
LEAST = 2.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bar = LEAST if multiplies_bfloat16() else None
    facts = []
    for columns, width in SHAPES:
        sizes = {"x": (options.tokens, columns), "w": (columns, width), "dy": (options.tokens, width)}
        wide = {name: jax.random.normal(jax.random.key(n), size) for n, (name, size) in enumerate(sizes.items())}
        narrow = {name: array.astype(jnp.bfloat16) for name, array in wide.items()}
        operations = 2 * options.tokens * columns * width / 1e9
        for name, over in OVER.items():
            pair = tuple(part.removesuffix("^T") for part in name.split())
            plain, naive, found = (
                operations / seconds(over, rule, *(arrays[one] for one in pair))
                for arrays, rule in ((wide, None), (narrow, None), (narrow, ROWS))
            )
            label = f"{columns} x {width}: {name}"
            facts += [
                Fact(f"{label}, float32", plain, "Gflop/s"),
                Fact(f"{label}, bfloat16", found, "Gflop/s", peer=naive),
                Fact(f"{label}, bfloat16 over float32", found / plain, "x", least=bar),
            ]
    return report(facts, as_json=options.json)


def seconds(over: tuple[int, int], rule: MatmulRule | None, left: Any, right: Any, times: int = 15) -> float:
    """Of one matmul, the best of all."""
    multiply = jax.jit(lambda left, right: contract(left, right, over, rule))
    best = float("inf")
    jax.block_until_ready(multiply(left, right))
    for _ in range(times):
        started = time.perf_counter()
        jax.block_until_ready(multiply(left, right))
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    sys.exit(main())
