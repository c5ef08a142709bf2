"""A training run on a mesh of eight devices (virtual ones, in a process of their own) is the run on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.protocol.codec import to_json

REPOSITORY = Path(__file__).parents[3]
SCRIPT = """
import json, sys
import jax
from engine.trainer.config.batch_shape import batch_of
from engine.protocol.jobs import train_args as train_args_of
from engine.protocol.train_args import TrainArgs
from engine.trainer.input_pipeline.batches import DataOrder, batch_at
from engine.trainer.remat_policy import compile_within_limit, compute_policy
from engine.protocol.train_args import MeshArgs
from engine.trainer.models import config_from_hf, create
from engine.trainer.input_pipeline.packing import pack_rows
from engine.trainer.distributed.placement import Placement
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.train_step import init_state, make_eval_loss, with_method

jax.config.update("jax_numpy_dtype_promotion", "strict")
job = json.load(sys.stdin)
rows = [TokenRow(str(i), tuple(row), (0,) * (len(row) - n) + (1,) * n) for i, (row, n) in enumerate(job["rows"])]
for case in job["cases"]:
    config, args = config_from_hf(case["config"]), train_args_of(case["args"])
    devices = jax.devices()[:1] if case["mesh"] is None else jax.devices()
    placement = Placement(devices, MeshArgs(*case["mesh"] or ()))
    shape = batch_of(args, placement.size.fsdp)
    packed = pack_rows(rows, args.seq_len, packing=True, seed=0)
    order = DataOrder(packed.n_sequences, shape.sequences, 0)
    graphdef, state = init_state(with_method(create(config, seed=0), args, devices[0]), args)
    state = placement.state(state, config)

    def batch(step):
        return placement.batch(batch_at(packed, order, step, shape.micro_batches, rows=shape.rows), axis=1)

    step, policy = compile_within_limit(graphdef, args, state, batch(1), placement, limit=None)
    losses = []
    for number in range(1, args.num_train_steps + 1):
        state, metrics = step(state, batch(number))
        losses.append([float(metrics["loss"]), float(metrics["grad_norm"]), int(metrics["tokens"])])
    part = {name: array[0] for name, array in batch_at(packed, DataOrder(packed.n_sequences, 10, 0), 1, 1, rows=16).items()}
    loss, count = 0.0, 1.0
    if case["eval"]:
        loss, count = make_eval_loss(graphdef, compute_policy(args, placement))(state, placement.batch(part, axis=0))
    specs = {jax.tree_util.keystr(path, simple=True, separator="."): str(leaf.sharding.spec)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)} if case["mesh"] else {}
    print(json.dumps({"losses": losses, "shape": shape, "eval": float(loss / count), "specs": specs}), flush=True)
"""
GEMMA = {  # one kv head, which no tp divides; a vocabulary that eight divide
    "model_type": "gemma", "vocab_size": 264, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip
GEMMA2 = {
    **GEMMA,
    "model_type": "gemma2",
    "num_key_value_heads": 2,
    "vocab_size": 260,
    "num_hidden_layers": 2,
    "sliding_window": 8,
}
MESHES = [(8, 1), (4, 2), (2, 4), (1, 8)]
# No mesh divides this batch: each has empty rows in its last micro-batch, and micro-batches of its own.
BATCH = {"global_batch_size": 10, "per_device_batch_size": 2, "num_train_steps": 4, "seq_len": 24}
IN_BACKWARD = {"update": "in_backward", "max_grad_norm": None, "per_device_batch_size": 10}


@pytest.fixture
def train(make_args: Any, make_rows: Any) -> Any:
    """Losses and gradient norms of a few steps, for each mesh (None: one device), all in one process."""

    def run(config: Any, meshes: Sequence[Any], *, with_eval: bool = True, **changes: Any) -> list[dict[str, Any]]:
        values = to_json(make_args(**BATCH | changes))
        cases = [{"config": config, "args": values, "mesh": mesh, "eval": with_eval} for mesh in meshes]
        rows = [(row.tokens, sum(row.loss_mask)) for row in make_rows(40)]
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=REPOSITORY, input=json.dumps({"rows": rows, "cases": cases}),
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def _same(results: list[dict[str, Any]]) -> None:
    single, *others = results
    for other in others:
        for expected, losses in zip(single["losses"], other["losses"], strict=True):
            assert losses == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert other["eval"] == pytest.approx(single["eval"], rel=1e-5)


@pytest.mark.parametrize("attention", [pytest.param("plain", marks=pytest.mark.slow), "blocked"])
def test_a_mesh_trains_as_one_device(train: Any, attention: str) -> None:
    """fsdp and tp together, with empty rows and other micro-batches: the losses of one device within 1e-5."""
    results = train(GEMMA, [None, (4, 2)], attention=attention, with_eval=False)
    _same(results)
    assert [entry["shape"] for entry in results] == [[10, 5, 2], [10, 2, 8]]
    specs = results[1]["specs"]
    assert specs["params.layers.q.value"] == "P(None, 'fsdp', 'tp')"


@pytest.mark.slow
@pytest.mark.parametrize("config", [GEMMA, GEMMA2], ids=["gemma", "gemma2"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"attention": "blocked"}, {"method": "lora", "lora_rank": 2}, {"optimizer": "adafactor"}, IN_BACKWARD],
    ids=["full", "blocked", "lora", "adafactor", "in_backward"],
)
def test_every_mesh_trains_as_one_device(train: Any, config: Any, changes: dict[str, Any]) -> None:
    """The same over all ways to lay out eight devices, for every method."""
    _same(train(config, [None, *MESHES], **changes))
