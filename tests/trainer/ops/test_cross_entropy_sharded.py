"""The head's loss over eight devices (virtual ones, in a process of their own): the same numbers, and no row is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
SCRIPT = """
import json, re, sys
import jax, jax.numpy as jnp, numpy as np
from engine.trainer.ops.cross_entropy import linear_cross_entropy

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
cut, whole = jax.NamedSharding(mesh, jax.P("data")), jax.NamedSharding(mesh, jax.P())
draw = np.random.default_rng(0)
states, table = (jnp.asarray(draw.normal(size=size), jnp.float32) for size in ((32, 16), (1024, 16)))
labels = jnp.asarray(draw.integers(0, 1024, 32), jnp.int32)

def both(shards):
    def loss(states, table):
        states = jax.lax.with_sharding_constraint(states, whole)
        return jnp.mean(linear_cross_entropy(states, table, labels, softcap=None, block=192, shards=shards))
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)), out_shardings=(whole, (cut, cut)))

alone, alone_grads = both(1)(states, table)
placed = jax.device_put(states, cut), jax.device_put(table, cut)
compiled = both(int(sys.argv[1])).lower(*placed).compile()
value, grads = compiled(*placed)
print(json.dumps({
    "loss": abs(float(value - alone)),
    "grads": [float(np.abs(np.asarray(one) - np.asarray(two)).max()) for one, two in zip(grads, alone_grads)],
    "gathered": re.findall(r"= f32\\[([0-9,]*)\\]\\S* all-gather", compiled.as_text()),
}))
"""


def _run(shards: int) -> dict[str, Any]:
    environment = {
        **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, str(shards)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_no_row_of_the_table_travels() -> None:
    """With one shard a device only the states are gathered; loss and gradients are those of one device."""
    found = _run(8)
    assert found["loss"] < 1e-6
    assert max(found["grads"]) < 1e-6
    assert set(found["gathered"]) <= {"32,16"}


@pytest.mark.slow
def test_rows_would_travel_without_shards() -> None:
    """The same with shards=1 gathers the table [1024, 16]: the other test's check can fail."""
    assert any(shape.endswith("1024,16") for shape in _run(1)["gathered"])
